"""Whom the uplink believes, told by real handshakes, with a clock and without one."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import threading
import warnings
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from agent.certificates import DAY_NS
from agent.link import reason
from agent.tls import dates_of, tls_context
from agent.trust import (
    SecretError,
    Standing,
    password,
    secret_file,
)
from config.model import TlsTable, UplinkTable

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
NOW_NS = int(NOW.timestamp()) * 10**9
AUTHORITY = trustme.CA()
HOST = "broker.test"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def serving(
    begin: datetime.datetime,
    end: datetime.datetime,
    *,
    host: str = HOST,
    ca: trustme.CA = AUTHORITY,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, not_before=begin, not_after=end).configure_cert(context)
    return context


def shake(
    server: ssl.SSLContext, folder: Path, floor_ns: int | None
) -> tuple[tuple[int, int], ...] | str:
    """Shake hands as paho does; return the chain's dates, or why it was not accepted."""
    near, far = socket.socketpair()
    heard = bytearray()

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as wrapped:
                heard.extend(wrapped.recv(100))
        except OSError:
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    context = tls_context(TlsTable(ca_file="ca.pem"), folder.joinpath, floor_ns=floor_ns)
    try:
        with context.wrap_socket(
            near, server_hostname=HOST, do_handshake_on_connect=False
        ) as wrapped:
            wrapped.settimeout(30)
            wrapped.do_handshake()
            return dates_of(wrapped)
    except OSError as exc:
        near.close()
        return reason(exc)
    finally:
        thread.join()
        assert not heard  # a stranger gets not a byte


YEAR = 365 * DAY
VALID = (NOW - YEAR, NOW + YEAR)
FUTURE = (NOW + YEAR, NOW + 2 * YEAR)  # as every certificate is to a clock that says 1970
PAST = (NOW - 2 * YEAR, NOW - YEAR)


def test_with_a_clock_only_what_is_valid_now_is_believed(folder: Path) -> None:
    assert isinstance(shake(serving(*VALID), folder, None), tuple)
    assert "not yet valid" in shake(serving(*FUTURE), folder, None)
    assert "expired" in shake(serving(*PAST), folder, None)


def test_without_a_clock_what_ended_before_the_last_known_time_is_not_believed(
    folder: Path,
) -> None:
    for lasts in (VALID, FUTURE):  # 1970 locks nobody out
        chain = shake(serving(*lasts), folder, NOW_NS)
        assert isinstance(chain, tuple)
        assert chain[0][1] == pytest.approx(int(lasts[1].timestamp()) * 10**9, abs=10**9)
    assert "ended before the last time that was known" in shake(serving(*PAST), folder, NOW_NS)
    # The negative control: it is the floor that decides, and nothing else.
    assert isinstance(shake(serving(*PAST), folder, NOW_NS - 500 * DAY_NS), tuple)


def test_without_a_clock_authority_and_name_are_verified_as_always(folder: Path) -> None:
    stranger = serving(*VALID, ca=trustme.CA())
    assert "certificate not accepted" in shake(stranger, folder, NOW_NS)
    assert "certificate not accepted" in shake(serving(*VALID, host="else.test"), folder, NOW_NS)


def _through_an_intermediate(folder: Path, end: datetime.datetime) -> ssl.SSLContext:
    """Serve with a valid certificate under an intermediate authority that ends at `end`."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    signer = load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    between = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "between")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(PAST[0])
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    own = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    issued = trustme.CA.from_pem(between, own).issue_cert(
        HOST, not_before=VALID[0], not_after=VALID[1]
    )
    chain = folder / "chain.pem"
    chain.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes() + between)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def test_every_certificate_of_the_chain_is_held_against_the_floor(folder: Path) -> None:
    told = shake(_through_an_intermediate(folder, VALID[1]), folder, NOW_NS)
    assert len(told) == 3
    over = shake(_through_an_intermediate(folder, PAST[1]), folder, NOW_NS)
    assert "ended before the last time that was known" in over


@pytest.mark.parametrize("floor_ns", [None, NOW_NS], ids=["with a clock", "without"])
def test_versions_before_1_2_are_refused(folder: Path, floor_ns: int | None) -> None:
    server = serving(*VALID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.minimum_version = ssl.TLSVersion.TLSv1
        server.maximum_version = ssl.TLSVersion.TLSv1_1
    server.set_ciphers("ALL:@SECLEVEL=0")
    assert isinstance(shake(server, folder, floor_ns), str)
    server.maximum_version = ssl.TLSVersion.TLSv1_2  # the negative control
    assert isinstance(shake(server, folder, floor_ns), tuple)


@pytest.mark.parametrize(("mode", "is_secret"), [
    (0o400, True), (0o600, True), (0o640, True), (0o644, False), (0o660, False), (0o602, False),
])  # fmt: skip
def test_a_secret_that_others_may_read_or_write_is_not_used(
    folder: Path, mode: int, is_secret: bool
) -> None:
    file = folder / "password"
    file.write_text("yuki\n")
    file.chmod(mode)
    settings = _settings(folder)
    if is_secret:
        assert secret_file("password", folder.joinpath) == file
        assert password(settings, folder.joinpath) == "yuki"
    else:
        with pytest.raises(SecretError, match=f"sudo chmod 640 {file}"):
            password(settings, folder.joinpath)


def _settings(folder: Path) -> UplinkTable:
    return UplinkTable.model_validate(
        {"brokers": ["mqtts://b.test"], "username": "u", "password_file": "password",
         "tls": {"ca_file": "ca.pem", "cert_file": "gw.pem", "key_file": "gw.key"}}
    )  # fmt: skip


def _renew(folder: Path, *names: str) -> None:
    """Write the files as most tools do: a new one, moved over the old."""
    issued = AUTHORITY.issue_cert("gw.test")
    texts = {
        "gw.pem": issued.cert_chain_pems[0].bytes(),
        "gw.key": issued.private_key_pem.bytes(),
        "password": os.urandom(8).hex().encode(),
    }
    for name in names:
        new = folder / f"{name}.new"
        new.write_bytes(texts[name])
        new.chmod(0o600)
        new.replace(folder / name)


def test_files_that_were_renewed_are_taken_once_they_fit_together(folder: Path) -> None:
    _renew(folder, "gw.pem", "gw.key", "password")
    standing = Standing(_settings(folder), folder.joinpath)
    standing.begin()
    assert not standing.is_renewed()
    _renew(folder, "gw.pem")  # the key is still the old one's
    assert not standing.is_renewed()
    assert "mismatch" in (standing.why_unusable or "")
    (folder / "gw.key").unlink()
    assert not standing.is_renewed()
    _renew(folder, "gw.pem", "gw.key")
    assert standing.is_renewed()
    assert standing.why_unusable is None
    assert not standing.is_renewed()  # once
    _renew(folder, "password")
    assert standing.is_renewed()


def test_a_chain_that_was_believed_without_a_clock_is_judged_once_there_is_one(
    folder: Path,
) -> None:
    standing = Standing(_settings(folder), folder.joinpath)
    chain = ((NOW_NS - DAY_NS, NOW_NS + 2 * DAY_NS), (NOW_NS - 9 * DAY_NS, NOW_NS + DAY_NS))
    for now_ns, holds in (
        (NOW_NS, True),
        (NOW_NS + DAY_NS + 1, False),
        (NOW_NS - DAY_NS - 1, False),
    ):
        standing.begin()
        standing.believed(chain)
        assert standing.is_refuted(now_ns) is not holds
        assert not standing.is_refuted(now_ns)  # once
    standing.believed(())
    assert not standing.is_refuted(NOW_NS)
