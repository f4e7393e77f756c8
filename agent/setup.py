"""A first set-up: from what a person says and a scan finds to a configuration that is right.

Nothing is written before it was checked and shown, and nothing is ever overwritten. The secret goes
into a file of its own; the configuration comes last, in one step, so that a power cut leaves either
all of it, or no configuration and at worst a password that nothing names.
"""

from __future__ import annotations

import os
import pwd
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import drivers
from config.explain import explain
from config.text import Text, text_of

from . import typed
from .draft import SIMULATED_BUS
from .interview import Interview, Question, WrongError
from .newfile import Owner, create_file
from .plan import Plan, plan_of
from .propose import Proposed, free_id, propose
from .questions import sensor_id
from .scan import Candidate, Machine, Place, Report

CONFIG_MODE, SECRET_MODE = 0o640, 0o600
SERVICE_USER = "yukimi"  # as systemd/ has it
SECRET_FILE = "broker-password"  # noqa: S105  (a name)
LEAVE_OUT = "-"

FOUND = Text("{where}: {what}", "{where}: {what}")
TAKE = Text("Take {driver} on {bus}?", "{driver}（{bus}）を設定に加えますか")
BOARD = Text(
    "Take this board's own health (temperature, power)?",
    "この基板の状態（温度・電源）も記録しますか",
)
ON_PINS = Text(
    "What is wired to pins (light beams, pulse counters, contacts) cannot be found: see yukimi "
    "drivers, and add it to the file.",
    "ピンに接続した機器（光線、パルス出力、接点）は検出できません。yukimi drivers を参照し、設定に"
    "追加してください。",
)
NOTHING_FOUND = Text(
    "No known device was found on the buses.", "対応する機器は見つかりませんでした。"
)
SENSORS = Question(
    "--sensors",
    Text("Write what: template or simulated", "書き出す内容（template / simulated）"),
    Text(
        "template: an empty one to be edited, with an example as a comment. simulated: three "
        "devices that live inside the gateway, to try everything else.",
        "template: 例をコメントで付けた空のひな形です。simulated: ゲートウェイ内で動く模擬機器3台の"
        "設定で、機器なしで試せます。",
    ),
    lambda answer: _one_of(answer, ("template", "simulated")),
    Text("template or simulated", "template か simulated で答えてください"),
    default="template",
)
MEANINGS: Mapping[str, Text] = {
    "mount_height_cm": Text(
        "  height of the sensor's face above the bare ground, cm",
        "  センサー面から地面までの高さ（cm）",
    ),
}
NEEDED = Text(
    "The sensor cannot measure without it. - leaves the sensor out for now, as a comment.",
    "この値がないと測定できません。- を入力すると、このセンサーはコメントとして残します。",
)


@dataclass(slots=True)
class Chosen:
    """The sensors that a configuration will have, and those that are only named in it."""

    sensors: list[Proposed] = field(default_factory=list)
    left_out: list[Proposed] = field(default_factory=list)


def choose(interview: Interview, report: Report, settings: Mapping[str, str]) -> Chosen:
    """Ask which of the devices found are taken, what they are called, and what they need.

    `settings` are options given beforehand, "snow-1.mount_height_cm" -> "352". What found no
    answer is in `interview.missing`. Raises WrongAnswerError, KeyboardInterrupt.
    """
    chosen = Chosen()
    taken: set[str] = set()
    for place in report.places:
        if not place.found and place.kind != "gpio":
            interview.say(FOUND, where=_where(place), what=place.says)
        for candidates in _devices(place):
            for candidate in candidates:
                where = _where(place)
                interview.say(FOUND, where=where, what=candidate.what)
                if interview.agree(TAKE, driver=candidate.driver, bus=where):
                    _take(interview, place, candidate, taken, settings, chosen)
                    break
    return chosen


def simulated() -> Chosen:
    """Return three emulated sensors on a simulated bus."""
    return Chosen(
        [
            Proposed("hall-1", "grideye-amg88xx", SIMULATED_BUS),
            Proposed("road-1", "lufft-umb", SIMULATED_BUS, {"model": "irs31pro"}),
            Proposed("snow-1", "maxbotix-hrxl", SIMULATED_BUS, {"mount_height_cm": 350.0}),
        ]
    )


def board_of(machine: Machine, taken: Iterable[str]) -> Proposed | None:
    """Return the board's own health as a sensor, None where the kernel shows none."""
    zones = (machine.root / "sys/class/thermal").glob("thermal_zone*")
    if next(zones, None) is None:
        return None
    return Proposed(free_id("cabinet", set(taken)), "pi-health", "system")


def check(text: str, path: Path) -> Plan:
    """Plan a draft that is to stand at `path`. Raises ConfigError with every problem found.

    The file of the password is not looked for: it is written together with the draft.
    """
    document: dict[str, Any] = tomllib.loads(text)
    document.get("uplink", {}).pop("password_file", None)
    return plan_of(document, path, {})


def secret_name(folder: Path) -> str:
    """Return a name for the file of the password that nothing has yet."""
    number, name = 1, SECRET_FILE
    while os.path.lexists(folder / name):
        number += 1
        name = f"{SECRET_FILE}-{number}"
    return name


def write(path: Path, text: str, secrets: Mapping[str, str]) -> list[Path]:
    """Write a configuration, and secrets (name -> content) beside it; return all files.

    The configuration comes last: where it is, it is whole, and so are its secrets. Raises
    FileExistsError, OSError; then nothing was left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    service = service_owner()
    written: list[Path] = []
    try:
        for name, secret in secrets.items():
            file = path.parent / name
            create_file(file, f"{secret}\n".encode(), SECRET_MODE, service)
            written.append(file)
        # Root's, so that the daemon cannot change what it is told; its group may read it.
        owner = None if service is None else (0, service[1])
        create_file(path, text.encode(), CONFIG_MODE, owner)
    except OSError:
        for file in written:
            file.unlink(missing_ok=True)
        raise
    return [*written, path]


def service_owner() -> Owner | None:
    """Return the service's user and group, to whom root gives what it writes; None where not."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    return user.pw_uid, user.pw_gid


def _where(place: Place) -> str:
    return place.bus if place.address is None else f"{place.bus} 0x{place.address:02x}"


def _devices(place: Place) -> Iterator[list[Candidate]]:
    """Yield what may be at a place, device by device: each with its candidates, best first."""
    alone = [each for each in place.found if not drivers.load(each.driver).spec.shares_bus]
    yield from ([each] for each in place.found if each not in alone)
    if alone:
        yield alone


def _take(
    interview: Interview,
    place: Place,
    candidate: Candidate,
    taken: set[str],
    settings: Mapping[str, str],
    chosen: Chosen,
) -> None:
    sensor = propose(place, candidate, taken)
    taken.discard(sensor.id)
    question = sensor_id(sensor.id, taken)
    sensor.id = interview.ask(question) or sensor.id
    taken.add(sensor.id)
    model = drivers.load(sensor.driver)
    for name in MEANINGS:  # a scan cannot know it, and the example's is some other mast's
        if sensor.options.get(name) == model.spec.example.get(name):
            sensor.options.pop(name, None)
    wanted = {
        option: answer
        for key, answer in settings.items()
        for name, _, option in [key.partition(".")]
        if name == sensor.id
    }
    for option, answer in wanted.items():
        _set(Interview(None, {_flag(sensor, option): answer}, language="en"), sensor, option)
    for sentence in sensor.missing():
        option = sentence.partition(":")[0]
        if LEAVE_OUT in wanted.values() or not _set(interview, sensor, option, sentence):
            chosen.left_out.append(sensor)
            return
    chosen.sensors.append(sensor)


def _set(interview: Interview, sensor: Proposed, option: str, sentence: str = "") -> bool:
    """Ask for an option and set it; False if the sensor is to be left out."""
    value = interview.ask(_option(sensor, option, sentence))
    if value == LEAVE_OUT:
        return False
    if value is not None:
        sensor.options[option] = value
    return True


def _option(sensor: Proposed, option: str, sentence: str) -> Question[object]:
    """Return the question for an option of a driver."""
    model = drivers.load(sensor.driver)

    def parse(answer: str) -> object:
        if answer == LEAVE_OUT:
            return answer
        value = _value(typed.plain(answer))
        try:
            model.Options.model_validate({**sensor.options, option: value})
        except ValidationError as exc:
            for where, what in explain(exc, model.Options):
                if where[:1] == (option,):
                    raise WrongError(text_of(what)) from None
        return value

    described = "  " + text_of(sentence)
    return Question(
        _flag(sensor, option), MEANINGS.get(option, described), NEEDED, parse, described
    )


def _flag(sensor: Proposed, option: str) -> str:
    return f"--set {sensor.id}.{option}"


def _value(answer: str) -> object:
    """Return a value as TOML has it; what is none is a text."""
    try:
        return tomllib.loads(f"value = {answer}")["value"]
    except (ValueError, RecursionError):
        return answer


def _one_of(answer: str, choices: tuple[str, ...]) -> str:
    if answer not in choices:
        raise ValueError(answer)
    return answer
