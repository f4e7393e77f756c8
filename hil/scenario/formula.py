"""A formula of time, as a scenario writes one: arithmetic and nothing else. Pure.

It knows `hour` (0 to 24, local), `day` (whole days since the start), `t_h` (hours since the start),
`pi`, and sin cos exp sqrt abs min max.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable

from config.explain import nearest
from config.text import Text

FUNCTIONS = {
    "sin": math.sin,
    "cos": math.cos,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "abs": abs,
    "min": min,
    "max": max,
}
NAMES = ("hour", "day", "t_h", "pi")
_PLAIN = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow, ast.FloorDiv, ast.USub, ast.UAdd,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
NOT_ONE = Text('"{text}" is no formula: {why}', "「{text}」は式として正しくありません: {why}")
ONLY = Text("only arithmetic is known here", "ここで使えるのは算術式だけです")


def compiled(text: str) -> Callable[[float, float], float]:
    """Return the formula as a function of (hours since the start, local hour at the start).

    Raises ValueError.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as exc:
        raise ValueError(NOT_ONE.filled(text=text, why=exc.msg)) from exc
    for node in ast.walk(tree):
        _check(node, text)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            node.value = float(node.value)  # 9 ** 9 ** 9 of whole numbers would never end
    code = compile(tree, "formula", "eval")

    def value(t_h: float, hour_at_start: float) -> float:
        at_h = t_h + hour_at_start
        scope = {"t_h": t_h, "hour": at_h % 24, "day": at_h // 24, "pi": math.pi, **FUNCTIONS}
        return float(eval(code, {"__builtins__": {}}, scope))  # noqa: S307  (checked, node by node)

    try:
        value(0.0, 0.0)
    except (ArithmeticError, TypeError, ValueError) as exc:
        raise ValueError(NOT_ONE.filled(text=text, why=exc)) from exc
    return value


def _check(node: ast.AST, text: str) -> None:
    if isinstance(node, _PLAIN):
        return
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    if isinstance(node, ast.Name):
        known = (*NAMES, *FUNCTIONS)
        if node.id not in known:
            raise ValueError(
                NOT_ONE.filled(text=text, why=f'"{node.id}"' + nearest(node.id, known).en)
            )
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return
    raise ValueError(NOT_ONE.filled(text=text, why=ONLY))
