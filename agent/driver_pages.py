"""What is known of each device model, as pages: `docs/drivers/*.md` and `yukimi drivers NAME`.

Everything comes from the driver's `spec` and its options; nothing is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import drivers
from drivers.base import Driver, Limits, Options, Quantity, Spec

from .toml import toml_value

# The 40 pins of a Raspberry Pi's header, 1 to 40.
PINS = (
    *("3.3 V", "5 V", "GPIO 2 SDA", "5 V", "GPIO 3 SCL", "GND", "GPIO 4", "GPIO 14 TXD"),
    *("GND", "GPIO 15 RXD", "GPIO 17", "GPIO 18", "GPIO 27", "GND", "GPIO 22", "GPIO 23"),
    *("3.3 V", "GPIO 24", "GPIO 10", "GND", "GPIO 9", "GPIO 25", "GPIO 11", "GPIO 8"),
    *("GND", "GPIO 7", "GPIO 0", "GPIO 1", "GPIO 5", "GND", "GPIO 6", "GPIO 12"),
    *("GPIO 13", "GND", "GPIO 19", "GPIO 16", "GPIO 26", "GPIO 20", "GND", "GPIO 21"),
)

GENERATED = "<!-- Written by `make schemas` from the driver itself; do not edit. -->\n"

REQUIRED = "required"
BUS_NAMES = {"i2c": "/dev/i2c-1", "gpio": "gpio", "w1": "w1", "system": "system"}
SERIAL_NAME = "/dev/serial/by-id/usb-..."


def pages() -> dict[str, str]:
    """Return every page by its name; those of other distributions have pages of their own."""
    models = [drivers.load(name) for name in drivers.DRIVERS]
    return {"README.md": index(models)} | {f"{each.spec.name}.md": page(each) for each in models}


def index(models: Iterable[type[Driver]]) -> str:
    """Return the table of all models."""
    rows = [
        (f"[`{spec.name}`]({spec.name}.md)", spec.title, spec.kind, bus_text(spec), spec.evidence)
        for spec in (model.spec for model in models)
    ]
    table = _table(("driver", "device", "kind", "bus", "evidence"), rows)
    return f"{GENERATED}\n# Devices\n\n{table}\n"


def page(model: type[Driver]) -> str:
    """Return the page of one model, in Markdown."""
    spec = model.spec
    parts = [f"{GENERATED}\n# {spec.name}", f"{spec.title}.", _facts(spec)]
    if spec.quantities:
        rows = [(f"`{q.name}`", q.unit, range_text(q), q.means) for q in spec.quantities]
        parts += ["## What it measures", _table(("quantity", "unit", "range", "meaning"), rows)]
        parts += _believed(spec)
    if spec.directions:
        ways = counted(spec)
        parts += ["## What it counts", f"Persons: {ways}; published with noise only."]
    parts.append("## Wiring")
    if spec.header:
        parts.append(_table(("device", "Raspberry Pi header"), spec.header))
        sketch = header_sketch(spec)
        parts += [f"```text\n{sketch}\n```"] if sketch else []
    parts += [_bullets(spec.wiring)] if spec.wiring else []
    rows = [
        (f"`{name}`", kind, default if default == REQUIRED else f"`{default}`", means)
        for name, kind, default, means in options_of(model.Options)
    ]
    parts += ["## Options", _table(("option", "value", "default", "meaning"), rows)]
    parts += ["## In a configuration", f"```toml\n{example(spec)}```"]
    if spec.quirks:
        parts += ["## Quirks", _bullets(spec.quirks)]
    parts += ["## Evidence", f"{_sentence(f'{spec.evidence}: {spec.evidence_note}')}"]
    parts += ["## Source", _sentence(spec.source)]
    return "\n\n".join(parts) + "\n"


def described(model: type[Driver]) -> dict[str, object]:
    """Return everything about a model as JSON."""
    spec = model.spec
    return {
        "name": spec.name,
        "title": spec.title,
        "kind": spec.kind,
        "bus": spec.bus,
        "directions": list(spec.directions),
        "quantities": [
            {
                "name": q.name,
                "unit": q.unit,
                "means": q.means,
                "low": q.low,
                "high": q.high,
                "classes": list(q.classes),
                "limits": q.limits._asdict(),
            }
            for q in spec.quantities
        ],
        "options": [
            {"name": name, "type": kind, "default": default, "means": means}
            for name, kind, default, means in options_of(model.Options)
        ],
        "options_schema": model.Options.model_json_schema(mode="validation"),
        "example": dict(spec.example),
        "header": [{"device": wire, "pi": pin} for wire, pin in spec.header],
        "wiring": list(spec.wiring),
        "quirks": list(spec.quirks),
        "checksum": spec.checksum or None,
        "line": None
        if spec.line is None
        else {
            "baud": spec.line.baud,
            "data_bits": spec.line.data_bits,
            "parity": spec.line.parity,
            "stop_bits": spec.line.stop_bits,
            "bauds": list(spec.bauds),
            "shared": spec.shares_bus,
            "talks": spec.talks,
        },
        "addresses": list(spec.addresses),
        "evidence": spec.evidence,
        "evidence_note": spec.evidence_note,
        "source": spec.source,
    }


def bus_text(spec: Spec) -> str:
    """Name the bus of a model, with its speed or its addresses."""
    if spec.line is not None:
        line = spec.line
        text = f"{spec.bus}, {line.baud} {line.data_bits}{line.parity}{line.stop_bits}"
        return text + (", several devices on a line" if spec.shares_bus else "")
    if spec.addresses:
        return f"{spec.bus}, {_addresses(spec.addresses)}"
    return spec.bus


def range_text(quantity: Quantity) -> str:
    """Name what a quantity can be at all."""
    if quantity.is_class:
        return ", ".join(quantity.classes)
    if quantity.low is None or quantity.high is None:
        return ""
    return f"{quantity.low:g} to {quantity.high:g}"


def limits_texts(limits: Limits) -> dict[str, str]:
    """Say by test what it does to a sample, "" where it is off."""
    spans = ((limits.range, "rejected"), (limits.suspect_range, "suspect"))
    spikes = ((limits.spike, "rejected"), (limits.suspect_spike, "suspect"))
    flats = ((limits.flat_s, "rejected"), (limits.suspect_flat_s, "suspect"))
    hovers = f" within {limits.flat_tolerance:g}" if limits.flat_tolerance else ""
    rate = limits.rate_per_s
    return {
        "range": ", ".join(f"{does} outside {s[0]:g} to {s[1]:g}" for s, does in spans if s),
        "spike": ", ".join(f"{does} above {away:g}" for away, does in spikes if away is not None),
        "change": "" if rate is None else f"suspect above {rate:g} a second",
        "standing still": ", ".join(
            f"{does} after {flat_s:g} s{hovers}" for flat_s, does in flats if flat_s is not None
        ),
    }


def _believed(spec: Spec) -> list[str]:
    judged = [q for q in spec.quantities if q.limits != Limits()]
    if not judged:
        return []
    rows = [(f"`{q.name}`", *limits_texts(q.limits).values()) for q in judged]
    how = (
        "What is rejected is left out of the record's statistics and counted in it; what is "
        "suspect stays. Each limit can be set: [quality.md](../quality.md)."
    )
    return ["## What is believed", how, _table(("quantity", *limits_texts(Limits())), rows)]


def counted(spec: Spec) -> str:
    """Name what is counted: both ways, or, where there is no telling them apart, the total."""
    ways = " and ".join(name for name in spec.directions if name != "total")
    return ", or ".join(filter(None, (ways, "total" if "total" in spec.directions else "")))


def example(spec: Spec) -> str:
    """Return how a configuration would have such a sensor."""
    bus = BUS_NAMES.get(spec.bus, SERIAL_NAME)
    lines = ["[[sensors]]", f'id = "{spec.kind}-1"', f'driver = "{spec.name}"', f'bus = "{bus}"']
    if spec.example:
        lines.append("[sensors.options]")
        lines += [f"{name} = {toml_value(name, value)}" for name, value in spec.example.items()]
    return "\n".join(lines) + "\n"


def options_of(options: type[Options]) -> list[tuple[str, str, str, str]]:
    """List the options as (name, what a value may be, default or REQUIRED, what it means)."""
    schema = options.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})
    rows = []
    for name, about in schema.get("properties", {}).items():
        default = REQUIRED
        if name not in schema.get("required", ()):
            value = about.get("default")
            default = "none" if value is None else toml_value(name, value)
        rows.append((name, _value_text(about, definitions), default, about.get("description", "")))
    return rows


def header_sketch(spec: Spec) -> str:
    """Draw the header down to the last pin that the device needs, its wires beside them."""
    wires: dict[int, str] = {}
    for wire, where in spec.header:
        for number in map(int, re.findall(r"\bpin (\d+)", where)):
            if 1 <= number <= len(PINS):
                wires[number] = f"{wires[number]}, {wire}" if number in wires else wire
    if not wires:
        return ""
    rows = []
    margin = max([len(wire) for number, wire in wires.items() if number % 2], default=0)
    for left in range(1, max(wires) + 1, 2):
        ours, theirs = wires.get(left, ""), wires.get(left + 1, "")
        arrow = "--" if ours else "  "
        row = f"{ours:>{margin}} {arrow} {PINS[left - 1]:>11} {left:>2} | {left + 1:<2} "
        row += f"{PINS[left]:<11}" + (f" -- {theirs}" if theirs else "")
        rows.append(row.rstrip())
    return "\n".join(rows)


def _facts(spec: Spec) -> str:
    rows = [
        ("records of kind", f"`{spec.kind}`"),
        ("bus", bus_text(spec)),
        ("other speeds", ", ".join(map(str, spec.bauds)) if spec.bauds else ""),
        ("checksum", spec.checksum or "none: the device sends none"),
    ]
    return _bullets(f"{name}: {text}" for name, text in rows if text)


def _addresses(addresses: tuple[int, ...]) -> str:
    if len(addresses) > 4 and addresses == tuple(range(addresses[0], addresses[-1] + 1)):
        return f"0x{addresses[0]:02x} to 0x{addresses[-1]:02x}"
    return ", ".join(f"0x{address:02x}" for address in addresses)


def _value_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say what a value may be, from its JSON Schema."""
    if "$ref" in schema:
        inner = definitions[schema["$ref"].rpartition("/")[2]]
        if "properties" not in inner:
            return _value_text(inner, definitions)
        return f"table of {', '.join(inner['properties'])}"
    if "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return " or ".join(json.dumps(each, ensure_ascii=False) for each in allowed)
    if "anyOf" in schema:
        each = [_value_text(part, definitions) for part in schema["anyOf"]]
        return " or ".join(text for text in each if text != "none")
    if schema.get("type") == "array":
        items = schema.get("items") or {}
        return f"list of ({_value_text(items, definitions)})" if items else "list"
    names = {"integer": "whole number", "string": "text", "boolean": "true or false"}
    names |= {"null": "none", "object": "table"}
    kind = names.get(str(schema.get("type")), str(schema.get("type", "anything")))
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    limits |= {"exclusiveMaximum": "below"}
    said = [f"{word} {schema[key]:g}" for key, word in limits.items() if key in schema]
    return " ".join([kind, *said])


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)])


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_sentence(each)}" for each in sentences)


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def wrapped(model: type[Driver]) -> Iterator[tuple[str, str]]:
    """Yield what a technician reads on a terminal: (label, text)."""
    spec = model.spec
    yield "kind", spec.kind
    yield "bus", bus_text(spec)
    if spec.bauds:
        yield "speeds", f"also found at {', '.join(map(str, spec.bauds))} baud"
    if spec.directions:
        yield "counts", f"{counted(spec)}, published with noise only"
    for quantity in spec.quantities:
        limits = f" ({range_text(quantity)})" if range_text(quantity) else ""
        yield "measures", f"{quantity.name} [{quantity.unit}]: {quantity.means}{limits}"
        if quantity.limits != Limits():
            tests = limits_texts(quantity.limits).items()
            said = "; ".join(f"{test} {text}" for test, text in tests if text)
            yield "believed", f"{quantity.name}: {said}"
    for name, kind, default, means in options_of(model.Options):
        shown = default if default == REQUIRED else f"default {default}"
        yield "option", f"{name} ({kind}; {shown}): {means}"
    for wire, where in spec.header:
        yield "header", f"{wire} -> {where}"
    labelled: Mapping[str, Any] = {"wiring": spec.wiring, "quirk": spec.quirks}
    for label, sentences in labelled.items():
        for sentence in sentences:
            yield label, sentence
    yield "checksum", spec.checksum or "none"
    yield "evidence", f"{spec.evidence}: {spec.evidence_note}"
    yield "source", spec.source
