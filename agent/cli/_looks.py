"""What was seen of a sensor that was asked once, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .display import printable, table
from .language import Text, said
from .names import UNITS

if TYPE_CHECKING:
    from agent.firstlook import Look, Value

PEOPLE = Text(
    "it works; what it sees of people is not shown",
    "正常に動作しています（人の情報は表示しません）",
)
STATES = {
    "ok": Text("ok", "正常"),
    "warmup": Text(
        "it still warms up, or looks for satellites", "ウォームアップ中、または衛星を捕捉中です"
    ),
    "no_value": Text("it answers, and gives no value", "応答はありますが、値がありません"),
    "garbled": Text("it answers, and nothing sensible: {error}", "応答が正しくありません: {error}"),
    "silent": Text("it does not answer: {error}", "応答がありません: {error}"),
}


def shown(look: Look, *, is_people: bool) -> list[str]:
    """Return lines for people; of a people sensor whether it works, and no more."""
    state = said(STATES[look.state], error=printable(look.error))
    if is_people and look.state == "ok":
        state = said(PEOPLE)
    rows = [
        (
            value.quantity,
            _number(value),
            UNITS.get(value.unit, value.unit),
            " ".join(value.reasons),
        )
        for value in look.values
    ]
    return [f"  {look.sensor}: {state}", *table(rows, align="lrll", indent="    ")]


def json_of(look: Look) -> dict[str, object]:
    """Return the same for machines."""
    return {
        "id": look.sensor,
        "state": look.state,
        "identity": look.identity or None,
        "error": look.error or None,
        "values": {
            each.quantity: {"value": each.value, "unit": each.unit, "reasons": list(each.reasons)}
            for each in look.values
        },
    }


def _number(value: Value) -> str:
    match value.value:
        case None:
            return "-"
        case float() as number:
            return f"{number:.8g}" if value.unit == "deg" else f"{number:.6g}"
        case other:
            return printable(other)
