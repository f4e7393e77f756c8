"""The control socket, spoken to by clients that mean well and by others."""

from __future__ import annotations

import grp
import json
import math
import os
import random
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import connection, control, socketfile
from agent.answers import Answers, Arguments, Document, Slices, Stream
from agent.asking import Asking, NotAnsweredError, ask
from agent.control import CLIENTS, Control
from agent.kernel import boot_s

WAIT_S = 60.0


def wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until_s, "it never came to be"
        time.sleep(0.01)


class Ticks:
    """A stream that never ends: a line whenever it is asked, with `padding` in it."""

    is_over = False

    def __init__(self, padding: int = 0, every_s: float = 0.05) -> None:
        self._padding = "x" * padding
        self._every_s = every_s
        self._next_s = -math.inf
        self.told = 0
        self.closed = threading.Event()

    def lines(self, now_s: float) -> list[Document]:
        self._next_s = now_s + self._every_s
        self.told += 1
        return [{"tick": self.told, "padding": self._padding}]

    def next_s(self) -> float:
        return self._next_s

    def close(self) -> None:
        self.closed.set()


class Desk:
    """A control socket with some answers of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = Control(boot_s)
        self.streams: list[Ticks] = []
        self.control.attach(self.answers("first"))
        self.control.serve(path)

    def answers(self, life: str) -> Answers:
        answers = Answers()
        answers.add("life", lambda _: {"life": life})
        answers.add("echo", dict)
        answers.add("large", lambda arguments: {"text": "x" * arguments["bytes"]})
        answers.add("bug", self._bug)
        answers.add("ticks", lambda arguments: self._ticks(life, arguments))
        answers.add("endless", lambda _: Slices(self._steps()))
        answers.add("slices", lambda _: Slices({"part": n} if n % 2 else None for n in range(6)))
        return answers

    def _steps(self) -> Iterator[Document]:
        for step in range(10**9):
            time.sleep(0.002)  # what a slice may take
            yield {"step": step}

    def _bug(self, _arguments: Arguments) -> Document:
        raise RuntimeError("secret")

    def _ticks(self, _life: str, arguments: Arguments) -> Stream:
        self.streams.append(Ticks(arguments.get("padding", 0)))
        return self.streams[-1]

    def wait(self) -> None:
        wait_until(self.path.exists)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT_S)
        while True:
            try:
                sock.connect(str(self.path))
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                sock.close()
                raise
            else:
                return sock

    def works(self) -> bool:
        while True:
            try:
                return bool(ask(self.path, "life", timeout_s=WAIT_S)["life"])
            except NotAnsweredError as exc:
                if exc.code != "busy":  # with those who are about to be dropped
                    raise
                time.sleep(0.01)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control.sock")
    desk.wait()
    yield desk
    desk.control.stop()
    assert not desk.path.exists()


def request(name: str, **arguments: object) -> bytes:
    return json.dumps({"control": "yukimi.control/1", "ask": name} | arguments).encode() + b"\n"


def reply(sock: socket.socket) -> dict[str, Any]:
    with sock.makefile("rb") as file:
        line: dict[str, Any] = json.loads(file.readline())
    return line


# Asking


def test_a_question_is_answered_and_another_on_the_same_connection(desk: Desk) -> None:
    with Asking(desk.path) as asking:
        assert asking.ask("life") == {"life": "first"}
        assert asking.ask("echo", sensor="snow-1") == {"sensor": "snow-1"}


def test_requests_sent_at_once_are_answered_one_after_the_other(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(b"".join(request("echo", n=n) for n in range(300)))
        with sock.makefile("rb") as file:
            answers = [json.loads(file.readline())["answer"]["n"] for _ in range(300)]
    assert answers == list(range(300))


def test_who_says_all_and_hangs_up_one_way_still_gets_the_answers(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(request("echo", n=1) + request("echo", n=2))
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            assert [json.loads(line)["answer"]["n"] for line in file] == [1, 2]


def test_an_unknown_question_is_told_what_is_known(desk: Desk) -> None:
    with pytest.raises(NotAnsweredError) as caught:
        ask(desk.path, "lief")
    assert caught.value.code == "unknown_ask"
    assert "life" in caught.value.text.en
    assert "life" in caught.value.text.ja
    assert not caught.value.is_unreachable


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[]\n",
        b'{"ask":"life"}\n',
        b'{"control":"yukimi.control/2","ask":"life"}\n',
        b'{"control":"yukimi.control/1"}\n',
        b'{"control":"yukimi.control/1","ask":7}\n',
        b"[" * 4000 + b"\n",
        b"\xff\xfe\n",
        b"\n",
    ],
)
def test_what_is_no_request_is_told_how_one_looks(desk: Desk, line: bytes) -> None:
    with desk.connect() as sock:
        sock.sendall(line)
        assert reply(sock)["error"]["code"] == "bad_request"
        assert sock.recv(1) == b""
    assert desk.works()


def test_a_request_that_is_too_long_is_told_so(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(b"x" * connection.REQUEST_BYTES)
        assert reply(sock)["error"]["code"] == "too_long"


def test_a_bug_in_an_answer_costs_that_answer_and_tells_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    with Asking(desk.path) as asking:
        with pytest.raises(NotAnsweredError) as caught:
            asking.ask("bug")
        assert caught.value.code == "bug"
        assert asking.ask("life") == {"life": "first"}
    said = capsys.readouterr()
    assert "RuntimeError" in said.out + said.err
    assert "secret" not in said.out + said.err + str(caught.value)


def test_an_answer_that_is_too_large_is_none(desk: Desk) -> None:
    with pytest.raises(NotAnsweredError, match="too large"):
        ask(desk.path, "large", bytes=connection.ANSWER_BYTES)
    assert len(ask(desk.path, "large", bytes=900_000)["text"]) == 900_000


# Streams


def test_a_stream_goes_on_until_the_client_hangs_up(desk: Desk) -> None:
    with Asking(desk.path) as asking:
        lines = asking.stream("ticks")
        assert [next(lines)["tick"] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert desk.streams[0].closed.wait(WAIT_S)


def test_a_long_answer_comes_in_slices_and_ends(desk: Desk) -> None:
    with Asking(desk.path) as asking:
        assert [line["part"] for line in asking.stream("slices")] == [1, 3, 5]
        assert asking.ask("life") == {"life": "first"}


def test_who_listens_to_a_stream_goes_on_in_the_next_life(desk: Desk) -> None:
    with Asking(desk.path) as asking:
        lines = asking.stream("ticks")
        assert next(lines)["tick"] == 1
        desk.control.detach()
        while next(lines) != {"state": "starting"}:
            pass
        desk.control.attach(desk.answers("second"))
        while next(lines).get("tick") != 1:
            pass
    assert len(desk.streams) == 2
    assert desk.streams[0].closed.is_set()


def test_between_two_lives_a_question_is_told_to_wait(desk: Desk) -> None:
    desk.control.detach()
    with pytest.raises(NotAnsweredError) as caught:
        ask(desk.path, "life")
    assert caught.value.code == "starting"
    assert caught.value.is_unreachable


# Clients that do harm


def test_more_clients_than_there_may_be_are_told_so(desk: Desk) -> None:
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            sock = stack.enter_context(desk.connect())
            sock.sendall(request("life"))
            assert reply(sock)["ok"]
        with pytest.raises(NotAnsweredError) as caught:
            ask(desk.path, "life")
        assert caught.value.code == "busy"
        assert desk.control.clients == CLIENTS
    wait_until(lambda: desk.control.clients == 0)
    assert desk.works()


def test_who_does_not_finish_a_request_is_dropped(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.3)
    with desk.connect() as silent, desk.connect() as halfway, desk.connect() as dripping:
        halfway.sendall(request("life")[:20])
        for byte in request("life"):  # a byte now and then does not prolong the patience
            try:
                dripping.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.02)
        assert silent.recv(1) == b""
        assert halfway.recv(1) == b""
        with suppress(ConnectionResetError):
            assert dripping.recv(1) == b""
    assert desk.works()


def test_who_does_not_read_is_dropped_and_costs_bounded_memory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)
    with desk.connect() as deaf, Asking(desk.path) as asking:
        deaf.sendall(request("ticks", padding=100_000))
        lines = asking.stream("ticks")
        next(lines)
        while desk.control.clients > 1:  # the other one is served all the time
            next(lines)
        # What the kernel holds, and one line more: nothing piled up.
        assert desk.streams[0].told < 50
        assert desk.streams[0].closed.is_set()


def test_control_who_reads_is_not_dropped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the two above."""
    patience_s = 2.0  # a loaded machine may keep a reader from reading for a while
    monkeypatch.setattr(connection, "PATIENCE_S", patience_s)
    until_s = time.monotonic() + 2 * patience_s
    with Asking(desk.path) as asking:
        for _ in asking.stream("ticks", padding=100_000):
            if time.monotonic() > until_s:
                break
        assert not desk.streams[0].closed.is_set()


def test_a_long_answer_keeps_nobody_waiting(desk: Desk) -> None:
    with Asking(desk.path) as patient, Asking(desk.path) as other:
        lines = patient.stream("endless", line_timeout_s=WAIT_S)
        assert next(lines) == {"step": 0}
        for _ in range(20):
            assert other.ask("life") == {"life": "first"}
        assert next(lines)["step"] > 0


def test_without_file_descriptors_nobody_is_let_in_until_there_are_some(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.2)
    desk.control.serve(desk.path)
    assert desk.works()
    wait_until(lambda: desk.control.clients == 0)  # nothing is about to be closed any more
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client, ExitStack() as taken:
        client.settimeout(WAIT_S)
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 20, limits[1]))
        with suppress(OSError):
            while True:  # every number below the limit
                taken.callback(os.close, os.dup(client.fileno()))
        client.connect(str(desk.path))
        client.sendall(request("life"))
        said = ""

        def lets_nobody_in() -> bool:
            nonlocal said
            said += "".join(capsys.readouterr())
            return "lets nobody in" in said

        wait_until(lets_nobody_in)
        assert desk.control.clients == 0
        taken.close()
        assert reply(client)["answer"] == {"life": "first"}


def test_a_thousand_requests_of_noise_harm_nobody(desk: Desk) -> None:
    noise = random.Random(20)
    good = request("echo", n=1)
    for _ in range(1000):
        length = noise.choice((0, 1, 20, 200, 5000))
        bytes_ = noise.choice((noise.randbytes(length), good[: noise.randrange(len(good))], good))
        with desk.connect() as sock, suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(bytes_)
            if noise.random() < 0.5:
                sock.sendall(b"\n")
    assert desk.works()
    wait_until(lambda: desk.control.clients == 0)


# The socket's file


def test_owner_and_group_may_connect_and_nobody_else(desk: Desk) -> None:
    mode = desk.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_where_its_group_exists_the_socket_is_that_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = next(each for each in grp.getgrall() if each.gr_gid)
    for name, gid in ((another.gr_name, another.gr_gid), ("no-such-group", os.getegid())):
        monkeypatch.setattr(socketfile, "GROUP", name)
        path = tmp_path / f"{name}.sock"
        made = socketfile.OpenSocket(path)
        assert path.stat().st_gid == gid
        made.close()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    with pytest.raises(NotAnsweredError) as caught:
        ask(path, "life")
    assert caught.value.is_unreachable
    desk = Desk(path)
    wait_until(lambda: desk.control.path == path)
    assert desk.works()
    desk.control.stop()


def test_a_live_socket_and_a_file_that_is_none_are_left_alone(desk: Desk, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text("mine", encoding="utf-8")
    for path, why in ((desk.path, "another gateway listens here"), (note, "no socket")):
        with pytest.raises(socketfile.ListenError, match=why):
            socketfile.OpenSocket(path)
    assert note.read_text(encoding="utf-8") == "mine"
    assert desk.works()


def test_a_path_that_is_too_long_is_told_with_its_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 110)
    with pytest.raises(socketfile.ListenError, match=r"at most 107 bytes, this one has \d+"):
        socketfile.OpenSocket(path)


def test_without_a_socket_it_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.05)
    blocked = tmp_path / "folder"
    blocked.write_text("no folder", encoding="utf-8")
    desk = Desk(blocked / "control.sock")
    beat_s = desk.control.beat_s
    wait_until(lambda: desk.control.problem is not None)
    wait_until(lambda: desk.control.beat_s > beat_s + 0.5)
    assert desk.control.path is None
    said = capsys.readouterr()
    assert (said.out + said.err).count("no control socket") == 1
    blocked.unlink()  # and once it can be made, it is
    wait_until(lambda: desk.control.path is not None)
    assert desk.works()
    desk.control.stop()


def test_a_socket_that_somebody_removed_comes_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.05)
    desk.control.serve(desk.path)
    desk.path.unlink()
    desk.control.wake()
    desk.wait()
    assert desk.works()


def test_another_path_is_served_from_then_on_and_nobody_is_dropped(
    desk: Desk, tmp_path: Path
) -> None:
    other = tmp_path / "run" / "other.sock"
    with Asking(desk.path) as asking:
        assert asking.ask("life") == {"life": "first"}
        desk.control.serve(other)
        wait_until(other.exists)
        wait_until(lambda: not desk.path.exists())
        assert asking.ask("life") == {"life": "first"}
    desk.path = other
    assert desk.works()


# The client


def test_nobody_there_is_told_with_the_path_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotAnsweredError) as caught:
        ask(tmp_path / "control.sock", "life")
    assert str(tmp_path) in caught.value.text.ja
    assert "systemctl status yukimi" in caught.value.text.en


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to anything")
def test_who_may_not_is_told_of_the_group(desk: Desk) -> None:
    desk.path.chmod(0)
    with pytest.raises(NotAnsweredError, match="join the group yukimi"):
        ask(desk.path, "life")


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH\n", b"x" * 2**22, b'{"ok":true}\n'])
def test_what_is_no_gateway_is_told_as_such(tmp_path: Path, says: bytes) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()

        def talk() -> None:
            sock, _ = stranger.accept()
            with sock, suppress(OSError):
                sock.sendall(says)
                sock.recv(1000)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(NotAnsweredError, match="makes no sense"):
            ask(path, "life")
        thread.join()


def test_a_gateway_that_hangs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    path = tmp_path / "hung.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        with pytest.raises(NotAnsweredError, match=r"did not answer within 0\.2 s"):
            ask(path, "life", timeout_s=0.2)
