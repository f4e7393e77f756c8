"""What is asked from afar: the good is done once, all else is refused, counted and bounded."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.remote import desk as desk_module
from agent.remote.applying import Applying
from agent.remote.command import MOST_BYTES, Command, RefusedError
from agent.remote.desk import BURST, REFILL_S, Desk, Surroundings
from agent.remote.done import FOLDER, Done
from agent.remote.looks import REMEMBERED, REMEMBERED_BYTES, SLOW_EACH_S
from config.model import VERBS, Verb

from .orders import GATEWAY, NOW, NOW_NS, Signer, text_of, utc

WAIT_S = 60.0


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: Signer(folder, name) for name in ("mika", "stranger")}


class Bench:
    """A desk whose verbs only count, and whose time is the test's."""

    def __init__(self, folder: Path, people: Mapping[str, Signer]) -> None:
        self.folder = folder
        self.signers = folder / "allowed_signers"
        self.signers.write_text(people["mika"].line())
        self.now_ns: int | None = NOW_NS
        self.boot_s = 1000.0
        self.runs: list[tuple[str, Mapping[str, Any], str | None]] = []
        self.audits: list[Mapping[str, object]] = []
        self._replies: dict[str, dict[str, Any]] = {}
        self._replied = threading.Condition()
        self.desk = self.new_desk()

    def new_desk(self) -> Desk:
        def does(verb: Verb) -> desk_module.Do:
            def do(arguments: Mapping[str, Any], by: str | None) -> dict[str, Any]:
                if arguments.get("fails"):
                    raise RefusedError("wrong_argument", "as was asked")
                if arguments.get("breaks"):
                    raise ZeroDivisionError
                if arguments.get("says_bytes"):
                    return {"file": os.fsdecode(b"tty\xff")}
                self.runs.append((verb, arguments, by))
                return {"run": len(self.runs), "ballast": "x" * arguments.get("bytes", 0)}

            return do

        return Desk(
            Surroundings(
                GATEWAY, lambda: self.now_ns, lambda: self.boot_s, self._reply, self.audits.append
            ),
            {verb: does(verb) for verb in VERBS},
            allowed=frozenset(("ping", "doctor", "report", "restart", "maintenance")),
            allowed_signers=lambda: self.signers,
            done=Done(self.folder),
        )

    def _reply(self, below: str, payload: bytes) -> None:
        with self._replied:
            self._replies[below] = json.loads(payload)
            self._replied.notify_all()

    def ask(self, topic: str, payload: bytes = b"") -> dict[str, Any]:
        """Send a command, with time enough since the last; return the reply."""
        self.boot_s += REFILL_S
        with self._replied:
            self._replies.pop(f"reply/{topic}", None)
        self.desk.hear(topic, payload, retained=False)
        with self._replied:
            assert self._replied.wait_for(lambda: f"reply/{topic}" in self._replies, WAIT_S)
            return self._replies[f"reply/{topic}"]

    def refusal(self, topic: str, payload: bytes = b"") -> str:
        reply = self.ask(topic, payload)
        assert not reply["ok"]
        return str(reply["error"]["code"])


@pytest.fixture
def bench(tmp_path: Path, people: Mapping[str, Signer]) -> Iterator[Bench]:
    bench = Bench(tmp_path, people)
    yield bench
    bench.desk.stop()


def test_what_only_looks_is_answered_to_whoever_asks(bench: Bench) -> None:
    reply = bench.ask("ping/1")
    assert reply == {
        "schema": "yukimi.reply/1", "gateway": GATEWAY, "verb": "ping", "id": "1",
        "ok": True, "answer": {"run": 1, "ballast": ""},
    }  # fmt: skip
    assert bench.ask("ping/1") == reply  # the same question has the same answer
    assert bench.ask("ping/2", text_of("ping", "2").encode())["answer"]["run"] == 2
    assert [run[0] for run in bench.runs] == ["ping", "ping"]


@pytest.mark.parametrize("verb", ["doctor", "report"])
def test_what_takes_a_process_is_begun_once_in_a_while_and_says_when_again(
    bench: Bench, people: Mapping[str, Signer], verb: Verb
) -> None:
    first = bench.ask(f"{verb}/1")
    assert first["ok"]
    began_s = bench.boot_s
    for number in range(2, 20):  # a broker that was taken over
        refused = bench.ask(f"{verb}/{number}")
        assert refused["error"]["code"] == "too_many"
        assert refused["error"]["again_in_s"] == SLOW_EACH_S - (bench.boot_s - began_s)
    assert bench.ask(f"{verb}/1") == first  # what is known is told again
    assert bench.ask("ping/1")["ok"]  # the control: what costs nothing has no such bound
    signed = people["mika"].order(text_of(verb, "s1"))
    assert bench.ask(f"{verb}/s1", signed)["ok"]  # nobody keeps her away
    again = people["mika"].order(text_of(verb, "s2"))
    assert bench.refusal(f"{verb}/s2", again) == "too_many"  # a copy of her command could
    assert len(bench.runs) == 3
    bench.boot_s += refused["error"]["again_in_s"]
    assert bench.ask(f"{verb}/20")["ok"]


def test_what_is_remembered_of_looks_is_bounded_by_bytes_and_the_newest_is_there(
    bench: Bench,
) -> None:
    def ask(number: int, size: int) -> dict[str, Any]:
        text = text_of("ping", str(number), arguments={"bytes": size})
        return bench.ask(f"ping/{number}", text.encode())

    looks = bench.desk._looks
    for number in range(REMEMBERED):
        ask(number, 100_000)
        assert sum(map(len, looks._answers.values())) <= REMEMBERED_BYTES
    runs = len(bench.runs)
    assert ask(REMEMBERED - 1, 100_000)["answer"]["run"] == runs
    assert ask(0, 100_000)["answer"]["run"] == runs + 1  # forgotten, and without harm
    for number in range(100, 200):
        ask(number, 1)
    assert len(looks._answers) == REMEMBERED


def test_what_changes_anything_is_done_once_for_a_signature(
    bench: Bench, people: Mapping[str, Signer]
) -> None:
    order = people["mika"].order(text_of("restart", "a", arguments={"x": 1}))
    reply = bench.ask("restart/a", order)
    assert reply["ok"]
    assert bench.runs == [("restart", {"x": 1}, "mika")]
    outcomes = [each["outcome"] for each in bench.audits if each["event"] == "command"]
    assert outcomes == ["begun", "done"]
    assert bench.ask("restart/a", order) == reply
    bench.desk.stop()
    bench.desk = bench.new_desk()  # the next life knows it, too
    assert bench.ask("restart/a", order) == reply
    assert len(bench.runs) == 1


def test_one_that_was_begun_and_never_ended_is_not_begun_again(
    bench: Bench, people: Mapping[str, Signer]
) -> None:
    Done(bench.folder).begin("restart/a", NOW_NS)  # and then the power went
    bench.desk = bench.new_desk()
    order = people["mika"].order(text_of("restart", "a"))
    assert bench.refusal("restart/a", order) == "repeated"
    assert bench.runs == []


@pytest.mark.parametrize(("changed", "why"), [
    ({"gateway": "chikaho-04"}, "wrong_gateway"),
    ({"verb": "maintenance"}, "malformed"),
    ({"id": "b"}, "malformed"),
    ({"schema": "yukimi.command/2"}, "malformed"),
    ({"surprise": 1}, "malformed"),
    ({"arguments": []}, "malformed"),
    ({"expires": None}, "malformed"),
    ({"issued": None}, "malformed"),
    ({"expires": "tomorrow"}, "malformed"),
    ({"expires": utc(NOW + timedelta(hours=25))}, "malformed"),
    ({"expires": utc(NOW - timedelta(seconds=1)), "issued": utc(NOW - timedelta(hours=1))},
     "expired"),
    ({"issued": utc(NOW + timedelta(minutes=2))}, "expired"),
    ({"arguments": {"fails": True}}, "wrong_argument"),
    ({"arguments": {"breaks": True}}, "failed"),
])  # fmt: skip
def test_a_good_signature_of_a_wrong_text_is_no_use(
    bench: Bench, people: Mapping[str, Signer], changed: dict[str, Any], why: str
) -> None:
    order = people["mika"].order(text_of("restart", "a", **changed))
    assert bench.refusal("restart/a", order) == why
    assert bench.runs == []
    assert bench.desk.refused[why] == 1


def test_nobody_else_and_nothing_else_is_signed(bench: Bench, people: Mapping[str, Signer]) -> None:
    mika, text = people["mika"], text_of("restart", "a")
    good = json.loads(mika.order(text))
    assert bench.refusal("restart/a", text.encode()) == "not_signed"
    for order in (
        people["stranger"].order(text),
        mika.order(text, namespace="file"),
        json.dumps(good | {"command": text.replace("{}", '{"for_s": 1}')}).encode(),
        json.dumps(good | {"signature": "-----BEGIN SSH SIGNATURE-----\n"}).encode(),
        json.dumps(good | {"signature": "x" * 10_000}).encode(),
    ):
        assert bench.refusal("restart/a", order) == "wrong_signature"
    bench.signers.write_text(mika.line('namespaces="file"'))
    assert bench.refusal("restart/a", mika.order(text)) == "wrong_signature"
    bench.signers.write_text(mika.line('valid-before="20200101"'))
    assert bench.refusal("restart/a", mika.order(text)) == "wrong_signature"
    bench.signers.chmod(0o664)
    assert bench.refusal("restart/a", mika.order(text)) == "failed"
    bench.signers.unlink()
    assert bench.refusal("restart/a", mika.order(text)) == "failed"
    assert bench.runs == []
    bench.signers.write_text(mika.line())  # the negative control
    bench.signers.chmod(0o644)
    assert bench.ask("restart/a", mika.order(text))["ok"]


def test_without_the_time_nothing_is_changed(bench: Bench, people: Mapping[str, Signer]) -> None:
    bench.now_ns = None
    order = people["mika"].order(text_of("restart", "a"))
    assert bench.refusal("restart/a", order) == "time_unknown"
    assert bench.ask("ping/1")["ok"]
    assert [run[0] for run in bench.runs] == ["ping"]


def test_what_was_done_is_remembered_or_nothing_is_done(
    bench: Bench, people: Mapping[str, Signer]
) -> None:
    damaged = bench.folder / FOLDER / "restart.z.json"
    damaged.parent.mkdir()
    damaged.write_text('{"schema": "half a')
    bench.desk = bench.new_desk()
    order = people["mika"].order(text_of("restart", "a"))
    assert bench.refusal("restart/a", order) == "failed"
    damaged.unlink()
    damaged.with_name("restart.a.json.new").mkdir()  # it cannot be written
    bench.desk = bench.new_desk()
    assert bench.refusal("restart/a", order) == "failed"
    assert bench.runs == []
    damaged.with_name("restart.a.json.new").rmdir()
    assert bench.ask("restart/a", order)["ok"]


@pytest.mark.parametrize(("options", "may"), [
    ('valid-after="20270114Z"', True),
    ('valid-before="20270114Z"', False),
    ('valid-after="20270116Z"', False),
    ('valid-before="20270116Z"', True),
])  # fmt: skip
def test_who_may_sign_until_a_day_may_by_the_gateways_time(
    bench: Bench, people: Mapping[str, Signer], options: str, may: bool
) -> None:
    bench.signers.write_text(people["mika"].line(options))
    assert bench.ask("restart/a", people["mika"].order(text_of("restart", "a")))["ok"] is may


def test_a_life_that_is_over_begins_nothing_that_the_next_one_would_not_know(
    bench: Bench, people: Mapping[str, Signer]
) -> None:
    signers = bench.signers

    def over_meanwhile() -> Path:
        bench.desk.stop()
        return signers

    bench.desk._allowed_signers = over_meanwhile
    order = people["mika"].order(text_of("restart", "a"))
    assert bench.refusal("restart/a", order) == "busy"
    bench.desk = bench.new_desk()
    assert bench.ask("restart/a", order)["ok"]
    assert len(bench.runs) == 1


@pytest.mark.parametrize("is_reborn", [True, False])
def test_a_clock_that_is_set_back_has_nothing_done_twice(
    bench: Bench, people: Mapping[str, Signer], is_reborn: bool
) -> None:
    old = people["mika"].order(text_of("restart", "a"))
    assert bench.ask("restart/a", old)["ok"]
    later = NOW + timedelta(days=3)
    bench.now_ns = NOW_NS + 3 * 86_400 * 10**9
    changed = {"issued": utc(later), "expires": utc(later + timedelta(hours=1))}
    assert bench.ask("restart/b", people["mika"].order(text_of("restart", "b", **changed)))["ok"]
    if is_reborn:
        bench.desk.stop()
        bench.desk = bench.new_desk()
    bench.now_ns = NOW_NS
    assert bench.refusal("restart/a", old) == "time_unknown"
    assert len(bench.runs) == 2


def test_an_answer_with_bytes_that_are_no_text_is_given(bench: Bench) -> None:
    text = text_of("ping", "1", arguments={"says_bytes": True})
    assert bench.ask("ping/1", text.encode())["answer"] == {"file": "tty?"}


@pytest.mark.parametrize("payload", [
    b'{"schema": "yukimi.command/1", "\\ud800": 1}',
    b'{"schema": "yukimi.signed-command/1", "command": "\\ud800", "signature": ""}',
])  # fmt: skip
def test_half_a_surrogate_pair_is_no_text_and_silences_nobody(bench: Bench, payload: bytes) -> None:
    assert bench.refusal("ping/1", payload) == "malformed"
    assert bench.ask("ping/2")["ok"]


def test_a_flood_is_counted_and_costs_nothing(bench: Bench) -> None:
    for number in range(1000):
        bench.desk.hear(f"ping/{number}", b"", retained=False)
    desk = bench.desk
    desk.stop()  # what was taken is done
    assert sum(desk.answered.values()) + sum(desk.refused.values()) <= 1000
    assert desk.refused["too_many"] == 1000 - BURST
    assert len(bench.runs) <= BURST
    assert len(bench.audits) == 2  # at once, and at the end


@pytest.mark.parametrize(("topic", "payload", "retained", "why"), [
    ("ping/1", b"", True, "retained"),
    ("ping/1", b"x" * (MOST_BYTES + 1), False, "too_large"),
    ("status/1", b"", False, "not_allowed"),
    ("explode/1", b"", False, "malformed"),
    ("ping/", b"", False, "malformed"),
    ("ping/../1", b"", False, "malformed"),
    ("ping", b"", False, "malformed"),
])  # fmt: skip
def test_what_cannot_be_meant_is_not_even_answered(
    bench: Bench, topic: str, payload: bytes, retained: bool, why: str
) -> None:
    bench.desk.hear(topic, payload, retained=retained)
    assert bench.desk.refused == {why: 1}
    assert bench.runs == []


def test_ten_thousand_damaged_commands_run_nothing(
    bench: Bench, people: Mapping[str, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed ones with flips, cuts and insertions, as fast as the desk takes them."""
    monkeypatch.setattr(desk_module.signing, "signer", _no_signature_holds)
    noise = random.Random(10)
    good = people["mika"].order(text_of("restart", "a"))
    replied = threading.Semaphore(0)
    bench.desk._around = Surroundings(
        GATEWAY,
        lambda: NOW_NS,
        lambda: bench.boot_s,
        lambda _below, _payload: replied.release(),
        bench.audits.append,
    )
    for _ in range(10_000):
        order = bytearray(good)
        for _ in range(noise.randint(1, 4)):
            at = noise.randrange(len(order))
            match noise.randrange(3):
                case 0:
                    order[at] ^= 1 << noise.randrange(8)
                case 1:
                    del order[at : at + noise.randrange(50)]
                case _:
                    order[at:at] = noise.randbytes(noise.randrange(20))
            order = order or bytearray(b"{")
        bench.boot_s += REFILL_S
        bench.desk.hear("restart/a", bytes(order), retained=False)
        assert replied.acquire(timeout=WAIT_S)
    assert bench.runs == []
    assert sum(bench.desk.refused.values()) == 10_000
    assert len(bench.audits) < 20  # a tally an hour, of 17 hours


def _no_signature_holds(*_: object) -> str:
    raise RefusedError("wrong_signature", "as ssh-keygen says of a text that was changed")


def test_the_thread_ends_when_nobody_asks_and_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "REST_S", 0.01)
    assert bench.desk._thread is None
    for number in range(3):
        assert bench.ask(f"ping/{number}")["ok"]
        thread = bench.desk._thread
        if thread is not None:
            thread.join(WAIT_S)
        assert bench.desk._thread is None


def test_a_trial_that_outlived_its_desk_is_answered_from_what_was_written_down(
    bench: Bench, people: Mapping[str, Signer], tmp_path: Path
) -> None:
    """Begun, written down, and killed before it was answered."""
    Done(tmp_path).begin("config-apply/1", NOW_NS)
    ends: list[Mapping[str, Any]] = []

    class Apply(Applying):
        def __init__(self) -> None:
            self.begun = 0

        def __call__(self, command: Command, by: str) -> dict[str, Any]:
            self.begun += 1
            return {"outcome": "trial"}

        def reply_to(self, id_: str) -> Mapping[str, Any] | None:
            return ends[-1] if ends and id_ == "1" else None

    apply = Apply()
    bench.desk.stop()
    bench.desk = Desk(
        Surroundings(
            GATEWAY, lambda: NOW_NS, lambda: bench.boot_s, bench._reply, bench.audits.append
        ),
        {},
        allowed=frozenset(("config-apply",)),
        allowed_signers=lambda: bench.signers,
        done=Done(tmp_path),
        apply=apply,
    )

    def order(id_: str) -> bytes:
        return people["mika"].order(text_of("config-apply", id_))

    assert bench.refusal("config-apply/1", order("1")) == "repeated"  # nothing was written down
    ends.append({"ok": True, "answer": {"outcome": "trial"}})
    assert bench.ask("config-apply/1", order("1"))["answer"]["outcome"] == "trial"
    ends.append({"ok": False, "error": {"code": "returned", "text": "why"}})
    assert bench.refusal("config-apply/1", order("1")) == "returned"
    ends.clear()  # by now ten others came
    assert bench.refusal("config-apply/1", order("1")) == "returned"
    assert apply.begun == 0
    assert bench.ask("config-apply/2", order("2"))["ok"]
    assert apply.begun == 1
    assert [each["outcome"] for each in bench.audits if each["event"] == "command"][-1] == "begun"
