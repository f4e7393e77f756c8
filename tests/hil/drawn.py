"""What a drawn terminal says, read back from the picture's own coordinates."""

from __future__ import annotations

from xml.etree import ElementTree

from hil.pictures.drawing import BASE_Y, CELL_X, CELL_Y, MARGIN

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(picture: str) -> list[str]:
    """Return its lines; each letter must stand at the begin of a cell."""
    placed: dict[int, dict[int, str]] = {}
    for text in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        line = placed.setdefault(round((float(text.get("y", 0)) - BASE_Y - MARGIN) / CELL_Y), {})
        letters = text.text or ""
        at = [_column(x) for x in text.get("x", "").split()]
        is_wide = "wide" in text.get("class", "")
        columns = at if is_wide else range(at[0], at[0] + len(letters))
        assert len(columns) == len(letters)
        if is_wide:
            line.update(dict.fromkeys((column + 1 for column in columns), ""))
        line.update(zip(columns, letters, strict=True))
    rows = (placed.get(row, {}) for row in range(max(placed, default=-1) + 1))
    return ["".join(row.get(at, " ") for at in range(max(row, default=-1) + 1)) for row in rows]


def text_of(picture: str) -> str:
    """Return all of it, as words with one space between them."""
    return " ".join(" ".join(lines_of(picture)).split())


def _column(x: str) -> int:
    column = (float(x) - MARGIN) / CELL_X
    assert abs(column - round(column)) < 0.02, x
    return round(column)
