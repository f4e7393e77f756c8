"""The benches: what the gateway can do, in figures, measured on the real daemon.

Each is a module with `run(arguments)`; `python -m hil bench` lists them. A figure's name ends in
its unit, a ratio comes from one run on one machine, and every module says how it measures.
"""

from __future__ import annotations

BENCHES = {
    "buses": "thirty-two sensors on six buses: does each keep its schedule, dead devices or not",
    "counting": "people: recordings with known crossings, simulated crowds, doors and draughts",
    "decoders": "what each driver costs a frame",
    "delivery": "a million waiting records: how fast they leave, and what they cost until then",
}
