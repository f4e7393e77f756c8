"""What runs in the place of what cannot be read says no more about people than was said last.

A configuration that is damaged may have had the tighter privacy policy, and an older one that takes
its place knows nothing of that. What was last published under which policy stands in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from config.load import Problem
from config.text import Text

from .lastgood import spool_path
from .logs import logger
from .plan import Plan, plan_of
from .privacy.ledger import last_policy
from .privacy.policy import Policy
from .resting import RestingSpool
from .spoolfile import SpoolError
from .spoolview import ledger_of

log = logger("fallback")

STRICT = Text(
    "an older configuration runs, and says no more about people than was said last: windows of"
    " {window_s} s, epsilon {epsilon}; apply the one that is wanted: sudo yukimi config apply FILE",
    "以前の設定で運転します。人数の公開は直前の方針より緩めません"
    "（窓 {window_s}秒、ε = {epsilon}）。"
    "希望する設定を適用してください: sudo yukimi config apply ファイル",
)


def strict(plan: Plan) -> Plan:
    """Return a plan that takes another's place, with a privacy policy no looser than the last."""
    last = _last_policy(spool_path(plan))
    own = plan.policy
    if last is None:
        return plan
    policy = Policy(
        max(own.window_s, last.window_s),
        min(own.epsilon, last.epsilon),
        min(own.day_limit, last.day_limit),
    )
    if policy == own:
        return plan
    loaded = plan.loaded
    document = {**loaded.document, "privacy": _said(loaded.document.get("privacy", {}), policy)}
    what = STRICT.filled(window_s=policy.window_s, epsilon=policy.epsilon)
    log.error("an older configuration is tightened", window_s=policy.window_s)
    tightened = plan_of(document, loaded.path, loaded.origins)
    return replace(tightened, refused=[*plan.refused, Problem("", "", what)])


def _said(table: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    flow = {"window_s": policy.window_s, "epsilon": _text(policy.epsilon)}
    return {
        **table,
        "flow": {**table.get("flow", {}), **flow},
        "day_limit": _text(policy.day_limit),
    }


def _text(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _last_policy(spool: Path) -> Policy | None:
    try:
        with RestingSpool(spool) as resting:
            return last_policy(text for _, text in ledger_of(resting))
    except FileNotFoundError:
        return None
    except SpoolError as exc:  # it is salvaged later, by who opens it
        log.warning("the last policy is not known", why=str(exc))
        return None
