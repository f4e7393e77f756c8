"""The changes that may be asked for over the control socket: another configuration, an earlier one.

    {"control":"yukimi.control/1","ask":"config-apply","document":{...},"within_s":120}
    {"control":"yukimi.control/1","ask":"config-rollback","number":3}

The answer comes once it is written down that there is a trial; what comes of it is in the list.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping

from config.text import Text

from .answers import Arguments, AskError, Change, Document, number_of
from .trials import LEAST_WITHIN_S, MOST_WITHIN_S, WITHIN_S, Trials

LOCAL, SIGNER = "local:", "signer:"  # before the name of who asked

NO_DOCUMENT = Text(
    "document must be a configuration, as a JSON object",
    "documentには設定をJSONオブジェクトで指定してください",
)


def changes(trials: Trials) -> Mapping[str, Change]:
    """Return what may be asked for, by name."""

    def apply(arguments: Arguments, user: int) -> Document:
        document = arguments.get("document")
        if not isinstance(document, dict):
            raise AskError("wrong_argument", NO_DOCUMENT)
        return trials.submit(
            document,
            by=_local(user),
            origin=str(arguments.get("file", "")),
            within_s=within_s_of(arguments),
            is_forced=arguments.get("force") is True,
        )

    def rollback(arguments: Arguments, user: int) -> Document:
        asked = "number" in arguments
        return trials.submit_earlier(
            number_of(arguments, "number", 0, 1, 10**9) if asked else None,
            by=_local(user),
            within_s=within_s_of(arguments),
            is_forced=arguments.get("force") is True,
        )

    return {"config-apply": apply, "config-rollback": rollback}


def within_s_of(arguments: Arguments) -> float:
    """Return how long a trial may take. Raises AskError."""
    least, most = int(LEAST_WITHIN_S), int(MOST_WITHIN_S)
    return float(number_of(arguments, "within_s", int(WITHIN_S), least, most))


def _local(user: int) -> str:
    try:
        return LOCAL + pwd.getpwuid(user).pw_name
    except KeyError:
        return f"{LOCAL}{user}"
