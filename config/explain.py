"""What is wrong with a document, in a technician's words, and what was probably meant."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .text import Text, text_of

Where = tuple[str | int, ...]
Finding = tuple[Where, str]  # a Text where it is known in Japanese too


def nearest(name: str, known: Iterable[str]) -> Text:
    """Say what was probably meant, or what there is: "; did you mean ...?"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return MEANT.filled(name=close[0])
    return KNOWN.filled(names=", ".join(names)) if names else Text("", "")


MEANT = Text('; did you mean "{name}"?', "。「{name}」の誤りではありませんか")
KNOWN = Text("; known: {names}", "。使えるもの: {names}")


def explain(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Turn pydantic's findings into (location, sentence) pairs."""
    return [_sentence(detail, model) for detail in error.errors(include_url=False)]


_WANTED = {
    "string_type": Text("a text in quotes", "引用符で囲んだ文字列"),
    "int_type": Text("a whole number", "整数"),
    "int_from_float": Text("a whole number", "整数"),
    "float_type": Text("a number", "数値"),
    "bool_type": Text("true or false", "true または false"),
    "list_type": Text("a list in [ ]", "[ ] で囲んだリスト"),
    "dict_type": Text("a table", "テーブル"),
    "model_type": Text("a table", "テーブル"),
}
_LIMITS = {
    "greater_than_equal": ("ge", Text("at least {limit}", "{limit}以上")),
    "greater_than": ("gt", Text("more than {limit}", "{limit}より大きい値")),
    "less_than_equal": ("le", Text("at most {limit}", "{limit}以下")),
    "less_than": ("lt", Text("less than {limit}", "{limit}より小さい値")),
}
MUST_BE = Text("must be {wanted}, not {shown}", "{wanted}でなければなりません（現在の値: {shown}）")
NO_SECRETS = Text(
    'secrets are never in the file: name a file that holds it, "{name}_file"',
    "秘密の値は設定ファイルに書けません。その値を収めたファイルを「{name}_file」で指定してください",
)
UNKNOWN_KEY = Text('unknown key "{name}"', "「{name}」という項目はありません")
MISSING = Text("is missing and has no default", "必須の項目ですが、指定されていません")
TOO_FEW = Text("needs at least {count} entry", "{count}個以上の要素が必要です")
OTHER = Text("{what}, not {shown}", "値が正しくありません（現在の値: {shown}）: {what}")


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> Finding:
    where = tuple(step for step in detail["loc"] if not _is_type_tag(step))
    kind, shown = detail["type"], shown_value(detail["input"])
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(where[-1])
        if name in ("password", "key"):
            return where, NO_SECRETS.filled(name=name)
        return where, UNKNOWN_KEY.filled(name=name) + nearest(name, _keys(model, where[:-1]))
    if kind == "missing":
        return where, MISSING
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        wanted = Text(allowed, allowed.replace(" or ", " または "))
        return where, MUST_BE.filled(wanted=wanted, shown=shown)
    if kind == "value_error":
        return where, text_of(context["error"])
    if kind in _WANTED:
        return where, MUST_BE.filled(wanted=_WANTED[kind], shown=shown)
    if kind == "too_short":
        return where, TOO_FEW.filled(count=context["min_length"])
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return where, MUST_BE.filled(wanted=words.filled(limit=context[key]), shown=shown)
    return where, OTHER.filled(what=detail["msg"], shown=shown)


def _is_type_tag(step: str | int) -> bool:
    # pydantic adds "function-after[...]" and the like to locations inside unions
    return isinstance(step, str) and ("[" in step or step in ("str", "int", "float"))


def shown_value(value: object) -> str:
    """Return a value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel], where: Where) -> list[str]:
    current: type[BaseModel] | None = model
    for step in where:
        if isinstance(step, int) or current is None:
            continue
        info = current.model_fields.get(step)
        if info is not None:  # else a name of the user's, above the model
            current = _model_in(info.annotation)
    fields = {} if current is None else current.model_fields
    return [info.alias or name for name, info in fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, dict, Union, types.UnionType):
        return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
    return None
