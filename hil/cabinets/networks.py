"""Cabinets with something wrong between the board and the city."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hil.faults.portal import Answerer
from hil.relay import hold_port

from .machines import fill
from .scenarios import cabinet
from .workshop import GATEWAY, PASSWORD, USER, Workshop, until


@cabinet("no-route", "YK-NET-01", "ip route")
def no_route(w: Workshop) -> None:
    """No interface is up."""
    w.start_broker()
    w.uplink(brokers=["mqtts://broker.sapporo.example:8883"])
    w.file("/sys/class/net/eth0/operstate", "down\n")
    w.site_changes["way_to"] = lambda _: OSError(errno.ENETUNREACH, "Network is unreachable")
    w.site_changes["resolve"] = _no_answer


@cabinet("no-dns", "YK-NET-02", "name server")
def no_dns(w: Workshop) -> None:
    """The name server does not answer."""
    w.start_broker()
    w.uplink(brokers=["mqtts://broker.sapporo.example:8883"])
    w.site_changes["resolve"] = _no_answer
    w.site_changes["way_to"] = lambda _: None


@cabinet("no-such-name", "YK-NET-02", "correct [uplink] brokers")
def no_such_name(w: Workshop) -> None:
    """The broker's name is misspelt."""
    w.start_broker()
    w.uplink(brokers=["mqtts://brocker.sapporo.example:8883"])

    def resolve(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    w.site_changes["resolve"] = resolve
    w.site_changes["way_to"] = lambda _: None


def _no_answer(*_arguments: Any, **_options: Any) -> Any:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@cabinet("firewall", "YK-NET-03", "firewall")
def firewall(w: Workshop) -> None:
    """Packets to the broker are dropped."""
    w.start_broker()
    # A listener whose queue is full drops what comes, as a firewall does.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    w.stack.callback(listener.close)
    address = listener.getsockname()
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(address)
        w.stack.callback(filler.close)
    until(lambda: not _takes(address))
    w.uplink(brokers=[f"mqtts://127.0.0.1:{address[1]}"])


def _takes(address: Any) -> bool:
    try:
        socket.create_connection(address, timeout=0.3).close()
    except OSError:
        return False
    return True


@cabinet("broker-down", "YK-NET-04", "broker started")
def broker_down(w: Workshop) -> None:
    """Nobody listens on the broker's port."""
    w.start_broker()
    holder = hold_port()
    w.stack.callback(holder.close)
    w.uplink(brokers=[f"mqtts://localhost:{holder.getsockname()[1]}"])


@cabinet("captive-portal", "YK-NET-05", "portal")
def portal(w: Workshop) -> None:
    """A web page answers on the broker's port."""
    w.start_broker()
    w.uplink(brokers=[f"mqtts://localhost:{w.stack.enter_context(Answerer()).port}"])


@cabinet("captive-portal-plain", "YK-NET-05", "portal")
def portal_plain(w: Workshop) -> None:
    """A web page answers on the plain port."""
    w.start_broker()
    w.uplink(brokers=[f"mqtt://localhost:{w.stack.enter_context(Answerer()).port}"])


@cabinet("no-tls", "YK-TLS-01", "TLS port")
def no_tls(w: Workshop) -> None:
    """The broker does not speak TLS on this port."""
    from hil.broker import Mosquitto

    w.start_broker()
    plain = w.stack.enter_context(Mosquitto())
    w.uplink(brokers=[f"mqtts://localhost:{plain.port}"])


@cabinet("tls-forgotten", "YK-MQ-01", "write mqtts://")
def tls_forgotten(w: Workshop) -> None:
    """The broker speaks TLS on this port, and mqtt:// is configured."""
    w.uplink(brokers=[f"mqtt://localhost:{w.start_broker().port}"])


@cabinet("unknown-authority", "YK-TLS-02", "ca_file")
def unknown_authority(w: Workshop) -> None:
    """The broker's authority is another."""
    w.papers.is_of_a_stranger = True


@cabinet("other-name", "YK-TLS-03", "certificate's own name")
def other_name(w: Workshop) -> None:
    """The certificate is another host's."""
    w.papers.names = ["elsewhere.example"]


@cabinet("certificate-over", "YK-TLS-04", "renewed")
def over(w: Workshop) -> None:
    """The broker's certificate ended yesterday."""
    w.papers.begins_days, w.papers.ends_days = -90.0, -1.0


@cabinet("silent-broker", "YK-MQ-01", "broker's log")
def silent(w: Workshop) -> None:
    """It takes connections and never answers."""
    w.start_broker()
    listener = socket.create_server(("127.0.0.1", 0))  # the kernel takes them; nobody reads
    w.stack.callback(listener.close)
    w.uplink(brokers=[f"mqtt://localhost:{listener.getsockname()[1]}"])


@cabinet("wrong-password", "YK-MQ-02", "password_file")
def wrong_password(w: Workshop) -> None:
    """The password is an old one."""
    (w.folder / "broker-password").write_text("last-winter\n")


@cabinet("not-authorised", "YK-MQ-03", "permitted")
def not_authorised(w: Workshop) -> None:
    """The access list has another gateway's topic."""
    w.access = [f"user {USER}", "topic readwrite yukimi/v1/cabinet-70/#"]


@cabinet("id-twice", "YK-MQ-05", "[gateway] id")
def twice(w: Workshop) -> None:
    """A cloned card is on line under the same id."""
    fill(w, share=0.01)
    clone = appear(w)
    w.stack.callback(clone.loop_stop)
    w.stack.callback(clone.disconnect)


def appear(w: Workshop) -> mqtt.Client:
    """Be a clone of the gateway: the same id, another life."""
    clone = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY, protocol=mqtt.MQTTv5)
    clone.username_pw_set(USER, PASSWORD)
    clone.connect_timeout = 20.0
    broker = w.start_broker()
    clone.tls_set(str(w.papers.true_ca))
    clone.connect("localhost", broker.port)
    clone.loop_start()
    birth = {"schema": "yukimi.status/1", "state": "online", "gateway": GATEWAY, "run": "d00d"}
    topic = f"yukimi/v1/{GATEWAY}/status"
    clone.publish(topic, json.dumps(birth), qos=1, retain=True).wait_for_publish(20.0)
    return clone


@cabinet("own-certificate-missing", "YK-TLS-05", "cert_file")
def own_missing(w: Workshop) -> None:
    """The broker wants a certificate, and we have none."""
    from hil.broker import Mosquitto, Tls

    w.start_broker()
    tls = Tls(w.papers.true_ca, w.papers.broker_cert, w.papers.broker_key, True)
    strict = w.stack.enter_context(Mosquitto(tls=tls))
    w.uplink(brokers=[f"mqtts://localhost:{strict.port}"])


@cabinet("route-in-a-namespace", "YK-NET-01", "ip route", needs_root=True)
def no_route_for_real(w: Workshop) -> None:
    """A real network namespace without a route."""
    w.start_broker()
    w.uplink(brokers=["mqtts://192.0.2.7:8883"])
    name = f"yukimi-{w.folder.name[-6:].lower().replace('_', 'x')}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    w.stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
    probe = (
        "import sys; from agent.doctor.site import way_to; "
        "print(getattr(way_to(sys.argv[1]), 'errno', 0))"
    )

    def way_to(address: str) -> OSError | None:
        said = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-c", probe, address],
            check=True,
            capture_output=True,
            text=True,
        )
        number = int(said.stdout)
        return OSError(number, "as the namespace says") if number else None

    w.site_changes["way_to"] = way_to
