"""Takes commands from the uplink, has them done one by one, and answers.

`hear` runs on the uplink's thread: it counts, throws away and queues, and never waits. A thread of
its own does the rest; it begins with the first command and ends when nothing has come for a while,
so that a gateway that nobody asks has none.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.logs import logger, place_of
from config.model import VERBS, Verb

from . import signing
from .applying import Applying
from .command import MOST_BYTES, Command, RefusedError, Why, is_id, parsed
from .done import Done, Reply
from .looks import Looks

log = logger("remote")

BURST = 10  # commands at once
REFILL_S = 6.0  # then one more each
WAITING = 8
REPLY_BYTES = 262_144
REST_S = 30.0  # without a command, before the thread ends
TALLY_S = 3600.0  # between two records that count what was answered and refused

Document = dict[str, Any]
Do = Callable[[Mapping[str, Any], str | None], Document]  # arguments, who signed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the desk knows of its gateway, and where its words go."""

    gateway: str
    utc_ns: Callable[[], int | None]  # None while the time is not known
    boot_s: Callable[[], float]
    reply: Callable[[str, bytes], None]  # topic below the gateway's root, payload
    audit: Callable[[Mapping[str, object]], None]  # becomes a record of the gateway's stream


class Desk:
    """The commands of one life of the gateway."""

    def __init__(
        self,
        around: Surroundings,
        verbs: Mapping[Verb, Do],
        *,
        allowed: frozenset[Verb],
        allowed_signers: Callable[[], Path] | None,
        done: Done,
        stop: Callable[[], None] = lambda: None,
        apply: Applying | None = None,
    ) -> None:
        """`stop` does at once what the verbs have still to do later.

        `apply` does config-apply, the one verb whose end is known only in another life.
        """
        self._around = around
        self._verbs = verbs
        self._allowed = allowed
        self._allowed_signers = allowed_signers
        self._done = done
        self._stop_verbs = stop
        self._apply = apply
        self._known = frozenset(verbs) | ({"config-apply"} if apply is not None else set())
        self._queue: queue.Queue[tuple[Verb, str, bytes] | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()  # of what follows
        self._tokens, self._filled_at_s = float(BURST), around.boot_s()
        self._tally: Counter[str] = Counter()
        self._tally_at_s = around.boot_s()  # the first is told at once
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._looks = Looks()  # the worker's own
        self.answered: Counter[str] = Counter()  # by verb
        self.refused: Counter[str] = Counter()  # by reason

    # On the uplink's thread

    def hear(self, below: str, payload: bytes, *, retained: bool) -> None:
        """Take what came on `cmd/` + `below`."""
        verb, _, id_ = below.partition("/")
        why: Why | None = None
        if retained:  # a command is for now; one that the broker keeps comes at each connection
            why = "retained"
        elif verb not in VERBS or not is_id(id_):
            why = "malformed"
        elif verb not in self._allowed or verb not in self._known:
            why = "not_allowed"
        elif len(payload) > MOST_BYTES:
            why = "too_large"
        elif not self._has_room():
            why = "too_many"
        if why is None:
            known: Verb = verb  # type: ignore[assignment]  # is among VERBS
            try:
                self._queue.put_nowait((known, id_, payload))
            except queue.Full:
                why = "busy"
            else:
                self._begin()
        if why is not None:
            self._count(None, why)

    def _has_room(self) -> bool:
        now_s = self._around.boot_s()
        with self._lock:
            self._tokens = min(BURST, self._tokens + (now_s - self._filled_at_s) / REFILL_S)
            self._filled_at_s = now_s
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_stopping:
                self._thread = threading.Thread(target=self._run, name="remote", daemon=True)
                self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Do nothing more; wait a little for what is being done."""
        with self._lock:
            self._is_stopping = True
            thread = self._thread
        self._stop_verbs()
        if thread is not None and thread is not threading.current_thread():
            with suppress(queue.Full):  # full, so it is awake
                self._queue.put_nowait(None)
            thread.join(patience_s)
        self._tell_tally()

    # On the desk's own

    def _run(self) -> None:
        while True:
            try:
                asked = self._queue.get(timeout=REST_S)
            except queue.Empty:
                asked = None
            with self._lock:
                if self._is_stopping or (asked is None and self._queue.empty()):
                    self._thread = None
                    return
            if asked is not None:
                self._serve(*asked)

    def _serve(self, verb: Verb, id_: str, payload: bytes) -> None:
        around = self._around
        by: str | None = None
        try:
            command = parsed(verb, id_, payload, gateway=around.gateway, now_ns=around.utc_ns())
            if command.signed is not None:
                by = self._signer(command)
            if command.must_be_signed:
                answer = self._payload(verb, id_, self._change(command, by))
            else:
                answer = self._look(command, by)
        except RefusedError as exc:
            self._count(verb, exc.why)
            answer = self._payload(verb, id_, _refusal(exc))
            if by is not None:  # whoever may sign is told of by name
                around.audit(_event(verb, id_, by, exc.why))
        except Exception as exc:  # noqa: BLE001  (a verb's bug ends the verb, not the gateway)
            log.error("bug in a command", verb=verb, error=place_of(exc))
            self._count(verb, "failed")
            bug = {"ok": False, "error": {"code": "failed", "text": "this is a bug"}}
            answer = self._payload(verb, id_, bug)
        around.reply(f"reply/{verb}/{id_}", answer)

    def _signer(self, command: Command) -> str:
        if self._allowed_signers is None or command.signed is None:
            raise RefusedError("wrong_signature", "nobody may sign: [commands] allowed_signers")
        now_ns = self._around.utc_ns()
        return signing.signer(command.signed, self._allowed_signers(), now_ns)

    def _look(self, command: Command, by: str | None) -> bytes:
        verb, id_, looks = command.verb, command.id, self._looks
        answer = looks.answered(verb, id_)
        if answer is None:
            looks.begin(verb, self._around.boot_s(), is_signed=by is not None)
            found = self._verbs[verb](command.arguments, by)
            answer = self._payload(verb, id_, {"ok": True, "answer": found})
            looks.remember(verb, id_, answer)
        self._count(verb, None)
        return answer

    def _change(self, command: Command, by: str | None) -> Reply:
        now_ns = self._around.utc_ns()
        if now_ns is None:
            raise RefusedError("time_unknown", "the gateway does not know the time any more")
        key = _key(command)
        reply = self._before(command)
        if reply is not None:
            return reply
        # A signature may take longer than a life waits: the next desk has read what was done.
        if self._is_stopping:
            raise RefusedError("busy", "the gateway begins anew: ask again")
        self._done.begin(key, now_ns)
        log.warning("command", verb=command.verb, id=command.id, by=by)
        self._around.audit(_event(command.verb, command.id, by, "begun"))
        try:
            reply = {"ok": True, "answer": self._do(command, by)}
        except RefusedError as exc:
            reply = _refusal(exc)
            self._count(command.verb, exc.why)
        else:
            self._count(command.verb, None)
        self._done.end(key, reply)
        if command.verb != "config-apply" or not reply["ok"]:  # else whoever knows the end tells it
            outcome = "done" if reply["ok"] else "failed"
            self._around.audit(_event(command.verb, command.id, by, outcome))
        return reply

    def _before(self, command: Command) -> Reply | None:
        """Return the reply to a command that was done. Raises RefusedError where it was begun.

        A trial goes on after its life: how it ended, even where the desk did not see it begin, is
        known from what is written down of it.
        """
        if command.verb == "config-apply" and self._apply is not None:
            reply = self._apply.reply_to(command.id)
            if reply is not None and self._done.is_begun(_key(command)):
                self._done.end(_key(command), reply)
                return reply
        return self._done.before(_key(command))

    def _do(self, command: Command, by: str | None) -> Document:
        if command.verb == "config-apply" and self._apply is not None:
            return self._apply(command, by or "")
        return self._verbs[command.verb](command.arguments, by)

    def _payload(self, verb: Verb, id_: str, reply: Reply) -> bytes:
        document = {
            "schema": "yukimi.reply/1",
            "gateway": self._around.gateway,
            "verb": verb,
            "id": id_,
            **reply,
        }
        payload = _packed(document)
        if len(payload) > REPLY_BYTES:
            error = {"code": "too_large", "text": f"the answer has {len(payload)} bytes"}
            document = {**document, "ok": False, "error": error}
            document.pop("answer", None)
            payload = _packed(document)
        return payload

    # What was answered and refused: told together, so that nobody can fill the spool with it

    def _count(self, verb: Verb | None, why: Why | None) -> None:
        now_s = self._around.boot_s()
        with self._lock:
            if why is None:
                self.answered[str(verb)] += 1
            else:
                if not self.refused[why]:
                    log.warning("commands are refused", why=why, verb=verb or "?")
                self.refused[why] += 1
            self._tally["answered" if why is None else why] += 1
        if now_s >= self._tally_at_s:
            self._tally_at_s = now_s + TALLY_S
            self._tell_tally()

    def _tell_tally(self) -> None:
        with self._lock:
            told, self._tally = dict(self._tally), Counter()
        if told:
            self._around.audit({"event": "commands", "counts": told})


def _packed(document: Document) -> bytes:
    # A file's name or a program's words may hold bytes that are no text: Python keeps them apart.
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


def _refusal(exc: RefusedError) -> Reply:
    return {"ok": False, "error": exc.json()}


def _key(command: Command) -> str:
    return f"{command.verb}/{command.id}"


def _event(verb: Verb, id_: str, by: str | None, outcome: str) -> Mapping[str, object]:
    return {"event": "command", "verb": verb, "id": id_, "by": by, "outcome": outcome}
