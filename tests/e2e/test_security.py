"""TLS and passwords: who is not who they should be gets nothing, and the log says why."""

from __future__ import annotations

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


@contextmanager
def tls_site(folder: Path, *, host: str = "127.0.0.1", mutual: bool = False) -> Iterator[Site]:
    """A site whose Mosquitto shows a certificate for `host`, and with `mutual` wants to see one."""
    need_mosquitto()
    tls = Tls(folder / "ca.pem", folder / "server.pem", folder / "server.key", mutual)
    AUTHORITY.cert_pem.write_to_path(tls.ca_file)
    STRANGER.cert_pem.write_to_path(folder / "stranger.pem")
    certificate = AUTHORITY.issue_cert(host)
    certificate.cert_chain_pems[0].write_to_path(tls.cert_file)
    certificate.private_key_pem.write_to_path(tls.key_file)
    own = AUTHORITY.issue_cert("site-01.example")
    own.cert_chain_pems[0].write_to_path(folder / "gw.pem")
    own.private_key_pem.write_to_path(folder / "gw.key")

    citys = ssl.create_default_context()
    citys.check_hostname = host == "127.0.0.1"
    AUTHORITY.configure_trust(citys)
    AUTHORITY.issue_cert("city.example").configure_cert(citys)
    with Site(folder, Mosquitto(tls=tls), make_city=partial(City, tls=citys)) as site:
        site.listen()
        yield site


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
