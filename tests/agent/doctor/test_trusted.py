"""The doctor believes the broker that the daemon believes: by the rule of docs/tls.md."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.record import utc_text
from tests.agent.doctor.board import Board
from tests.agent.test_trust import AUTHORITY, DAY, FUTURE, NOW, PAST, VALID, serving

HOST = "localhost"
NOW_S = NOW.timestamp()
ENDED = (NOW - 9 * DAY, NOW - 2 * DAY)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    board = Board(tmp_path)
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    text = board.config_file.read_text()
    tls = '[uplink.tls]\nca_file = "ca.pem"\n[spool]'
    board.config_file.write_text(text.replace("[spool]", tls, 1))
    return board


@contextmanager
def broker(board: Board, begin: datetime, end: datetime) -> Iterator[str]:
    """Somebody who shakes hands, and says nothing."""
    context = serving(begin, end, host=HOST)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(line, server_side=True) as wrapped:
                        wrapped.recv(1)
                except OSError:
                    line.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"mqtts://{HOST}:{listener.getsockname()[1]}"
        text = board.config_file.read_text()
        board.config_file.write_text(text.replace("mqtt://127.0.0.1:1", url, 1))
        yield url
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def dates(board: Board, lasts: tuple[datetime, datetime]) -> tuple[str, str]:
    with broker(board, *lasts) as url:
        found = board.look("YK-TLS-04", url)
        return found.status, str(found.evidence)


def test_a_clock_that_somebody_vouches_for_is_gone_by(board: Board) -> None:
    assert dates(board, VALID)[0] == "PASS"


@pytest.mark.parametrize("lasts", [FUTURE, PAST], ids=["future", "past"])
def test_by_such_a_clock_what_is_not_valid_now_is_refused(board: Board, lasts: Any) -> None:
    assert dates(board, lasts)[0] == "FAIL"


def test_without_a_clock_no_certificate_is_too_new(board: Board) -> None:
    """As each one is to a system that says 1970."""
    board.look_at_the_clock(synchronised=False)
    state, evidence = dates(board, FUTURE)
    assert state == "PASS"
    assert "the time is not known" in evidence


def test_a_battery_backed_clock_is_gone_by_as_the_daemon_does(board: Board) -> None:
    board.look_at_the_clock(synchronised=False)
    board.file("/sys/class/rtc/rtc0/since_epoch", str(int(time.time())))
    board.file("/sys/class/rtc/rtc0/hctosys", "1")
    assert dates(board, FUTURE)[0] == "FAIL"


def test_a_configuration_that_believes_the_system_has_the_doctor_believe_it(board: Board) -> None:
    board.look_at_the_clock(synchronised=False)
    text = board.config_file.read_text()
    board.config_file.write_text(f'[clock]\ntrust = "system"\n{text}')
    assert dates(board, FUTURE)[0] == "FAIL"


@pytest.mark.parametrize(("floor_s", "state"), [
    (NOW_S - 86_400, "FAIL"),
    (NOW_S - 3 * 86_400, "WARN"),  # it ends a day later
], ids=["ended before", "ends after"])  # fmt: skip
def test_the_floor_is_the_running_gateways(board: Board, floor_s: float, state: str) -> None:
    floor = utc_text(int(floor_s) * 10**9)
    clock = {"state": "estimated", "source": None, "floor": floor}
    board.gateway_says({}, clock=clock, time=utc_text(0))
    assert dates(board, ENDED)[0] == state


def test_where_a_receiver_tells_the_gateway_the_time_the_systems_clock_is_not_asked(
    board: Board,
) -> None:
    clock = {"state": "synced", "source": "gnss", "floor": None}
    board.clock = board.clock._replace(synchronised=False)
    board.gateway_says({}, clock=clock, time=utc_text(int(NOW_S - 3 * 86_400) * 10**9))
    assert dates(board, ENDED)[0] == "WARN"
    board.gateway_says({}, clock=clock, time=utc_text(int(NOW_S) * 10**9))  # the control
    board.config_file.write_text(board.config_file.read_text())
    assert dates_again(board) == "FAIL"


def dates_again(board: Board) -> str:
    text = board.config_file.read_text()
    start = text.index("mqtts://")
    url = text[start : text.index('"', start)]
    board.config_file.write_text(text.replace(url, "mqtt://127.0.0.1:1"))
    return dates(board, ENDED)[0]
