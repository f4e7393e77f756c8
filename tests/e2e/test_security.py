"""TLS and passwords: who is not who they should be gets nothing, and the log says why."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trustme

from hil.broker import Mosquitto, Tls
from hil.city.subscriber import City
from tests.e2e.conftest import Site, need_mosquitto

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
NO_CHECK_TIME = 0x200000  # openssl/x509_vfy.h


@contextmanager
def tls_site(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    mutual: bool = False,
    not_before: datetime.datetime | None = None,
) -> Iterator[Site]:
    """A site whose Mosquitto shows a certificate for `host`, and with `mutual` wants to see one."""
    need_mosquitto()
    tls = Tls(folder / "ca.pem", folder / "server.pem", folder / "server.key", mutual)
    AUTHORITY.cert_pem.write_to_path(tls.ca_file)
    STRANGER.cert_pem.write_to_path(folder / "stranger.pem")
    end = None if not_before is None else not_before + datetime.timedelta(days=90)
    certificate = AUTHORITY.issue_cert(host, not_before=not_before, not_after=end)
    certificate.cert_chain_pems[0].write_to_path(tls.cert_file)
    certificate.private_key_pem.write_to_path(tls.key_file)
    issue_own(folder)

    citys = ssl.create_default_context()
    if not_before is not None:
        citys.verify_flags |= NO_CHECK_TIME
    citys.check_hostname = host == "127.0.0.1"
    AUTHORITY.configure_trust(citys)
    AUTHORITY.issue_cert("city.example").configure_cert(citys)
    with Site(folder, Mosquitto(tls=tls), make_city=partial(City, tls=citys)) as site:
        site.listen()
        yield site


def issue_own(folder: Path) -> None:
    """Write the gateway's certificate and key, as a renewal would: one after the other."""
    own = AUTHORITY.issue_cert("site-01.example")
    own.cert_chain_pems[0].write_to_path(folder / "gw.pem")
    (folder / "gw.key").touch(mode=0o600)
    own.private_key_pem.write_to_path(folder / "gw.key")


def without_clock(site: Site) -> None:
    """Let only the kernel say whether the time is known; it does not."""
    path = site.folder / "gateway.toml"
    path.write_text(path.read_text().replace('"system"', '"kernel"'))


def secure(site: Site) -> list[str]:
    return [site.url.replace("mqtt:", "mqtts:")]


def assert_nothing_was_sent(site: Site) -> None:
    attempts = site.relay.connections + 2
    site.wait_spooled(lambda _: site.relay.connections >= attempts, "attempts")
    assert "site-01" not in site.broker.log
    assert site.heard == []
    assert site.stop() == 0


@pytest.mark.parametrize("mutual", [False, True])
def test_with_certificates_of_the_citys_authority_everything_arrives(
    tmp_path: Path, mutual: bool
) -> None:
    with tls_site(tmp_path, mutual=mutual) as site:
        own = {"cert_file": "gw.pem", "key_file": "gw.key"} if mutual else {}
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"} | own)
        site.start()
        site.wait_records("snow-2", 1)
        site.relay.reset()
        site.daemon.wait_log("event=connected", times=2)
        assert site.stop() == 0
        site.close_account()
        assert site.statuses()[-1]["reason"] == "stopped"


def test_a_broker_of_another_authority_is_refused(tmp_path: Path) -> None:
    with tls_site(tmp_path) as site:
        site.configure(brokers=secure(site), tls={"ca_file": "stranger.pem"})
        site.start()
        site.daemon.wait_log("not reachable", "certificate not accepted")
        assert_nothing_was_sent(site)


def test_a_broker_with_another_hosts_certificate_is_refused(tmp_path: Path) -> None:
    with tls_site(tmp_path, host="elsewhere.example") as site:
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"})
        site.start()
        site.daemon.wait_log("not reachable", "certificate not accepted", "127.0.0.1")
        assert_nothing_was_sent(site)


def test_a_gateway_without_certificate_is_not_let_in_and_says_so(tmp_path: Path) -> None:
    with tls_site(tmp_path, mutual=True) as site:
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"})
        site.start()
        site.daemon.wait_log("not reachable")
        assert_nothing_was_sent(site)


UNKNOWN_UNTIL = """\
import pathlib
from agent import kernel
_look = kernel.look
def look():
    known = pathlib.Path("time-is-known").exists()
    return _look()._replace(synchronised=known, error_s=0.01 if known else None)
kernel.look = look
kernel.rtc_s = lambda: None
"""


def test_a_gateway_that_does_not_know_the_time_is_not_locked_out_and_judges_once_it_does(
    tmp_path: Path,
) -> None:
    """Its clock is behind: to it the broker's certificate begins only in a year."""
    begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    with tls_site(tmp_path, not_before=begins) as site:
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"})
        without_clock(site)
        site.start({"agent.uplink.HEALTH_INTERVAL_S": 1.0}, fault=UNKNOWN_UNTIL)
        site.daemon.wait_log("event=connected")
        (tmp_path / "time-is-known").touch()
        site.daemon.wait_log("connection lost", "now that the time is known, it is not valid")
        site.daemon.wait_log("not reachable", "not yet valid")
        assert site.stop() == 0


def test_control_a_gateway_that_knows_the_time_goes_by_it(tmp_path: Path) -> None:
    begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    with tls_site(tmp_path, not_before=begins) as site:
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"})
        site.start()
        site.daemon.wait_log("not reachable", "not yet valid")
        assert_nothing_was_sent(site)


RECEIVER_KNOWS = """\
from agent import clock, kernel
_look, _begin = kernel.look, clock.Clock.__init__
kernel.look = lambda: _look()._replace(synchronised=False, error_s=None)
kernel.rtc_s = lambda: None
def begin(self, first, *, trust_system):
    _begin(self, first, trust_system=trust_system)
    utc_ns = first.utc_ns + {days} * 86_400 * 10**9
    self.hear(clock.Witness("gnss", first.boot_ns, utc_ns, 0.1))
    self.accept(first)
clock.Clock.__init__ = begin
"""


@pytest.mark.parametrize("days", [400, 100])
def test_by_a_receivers_time_it_judges_though_the_systems_clock_is_behind(
    tmp_path: Path, days: int
) -> None:
    """To the system's clock the certificate begins only in a year, and lasts 90 days."""
    begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    with tls_site(tmp_path, not_before=begins) as site:
        site.configure(brokers=secure(site), tls={"ca_file": "ca.pem"})
        without_clock(site)
        fault = RECEIVER_KNOWS.format(days=days)
        site.start({"agent.uplink.HEALTH_INTERVAL_S": 1.0}, fault=fault)
        if days > 365:
            site.wait_records("snow-2", 1)
            site.relay.reset()
            site.daemon.wait_log("event=connected", times=2)
        else:
            site.daemon.wait_log("connection lost", "it is not valid")
        assert site.stop() == 0


def test_renewed_certificates_are_taken_without_a_restart_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    with tls_site(tmp_path, mutual=True) as site:
        tls = {"ca_file": "ca.pem", "cert_file": "gw.pem", "key_file": "gw.key"}
        site.configure(brokers=secure(site), tls=tls)
        site.start({"agent.uplink.HEALTH_INTERVAL_S": 1.0})
        site.wait_records("snow-2", 1)
        (tmp_path / "gw.pem").write_text("half of it")
        site.daemon.wait_log("cannot be used; the connection goes on")
        issue_own(tmp_path)
        site.daemon.wait_log("renewed: connecting with them")
        site.daemon.wait_log("event=connected", times=2)
        assert site.stop() == 0
        site.close_account()


def test_a_key_that_everybody_may_read_is_not_used_until_it_is_closed(tmp_path: Path) -> None:
    with tls_site(tmp_path, mutual=True) as site:
        tls = {"ca_file": "ca.pem", "cert_file": "gw.pem", "key_file": "gw.key"}
        site.configure(brokers=secure(site), tls=tls)
        (tmp_path / "gw.key").chmod(0o644)
        site.start({"agent.route.BACKOFF_CAP_S": 1.0})
        site.daemon.wait_log("not reachable", "is not secret", "sudo chmod 640")
        (tmp_path / "gw.key").chmod(0o640)
        site.wait_records("snow-2", 1)
        assert site.stop() == 0
        site.close_account()


def test_a_plain_broker_is_not_spoken_to_where_tls_is_configured(site: Site) -> None:
    site.configure(brokers=secure(site))
    site.start()
    site.daemon.wait_log("not reachable")
    assert_nothing_was_sent(site)


def test_a_wrong_password_is_said_and_a_corrected_one_connects(tmp_path: Path) -> None:
    need_mosquitto()
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    for name, password in (("site-01", "yuki"), ("city", "machi")):
        subprocess.run(
            ["mosquitto_passwd", "-b", str(passwords), name, password],
            check=True,
            capture_output=True,
        )
    own = tmp_path / "broker-password"
    own.touch(mode=0o600)
    own.write_text("ame\n")
    city = partial(City, credentials=("city", "machi"))
    with Site(tmp_path, Mosquitto(password_file=passwords), make_city=city) as site:
        site.listen()
        site.configure(username="site-01", password_file="broker-password")
        site.relay.cut()
        site.start()
        site.daemon.wait_log("not reachable", "Connection refused")
        site.relay.resume()
        site.daemon.wait_log("not reachable", "Not authorized")
        attempts = site.relay.connections + 2
        site.wait_spooled(lambda _: site.relay.connections >= attempts, "attempts")
        assert len(site.daemon.said("not reachable")) == 2  # each reason once
        assert "yuki" not in "".join(site.daemon.log)
        own.write_text("yuki\n")
        site.wait_records("snow-2", 1)
        assert site.stop() == 0
        site.close_account()
