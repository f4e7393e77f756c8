"""The benches: what the gateway can do, in figures, measured on the real daemon.

Each is a module with `run(arguments)`; `python -m hil bench` lists them. A figure's name ends in
its unit, a ratio comes from one run on one machine, and every module says how it measures.
"""

from __future__ import annotations

BENCHES = {
    "accuracy": "recorded pedestrians with the noise of a release: how far off is an hour, a day",
    "alerts": "from a reading that crosses the line to the broker's acknowledgement",
    "city": "how fast the city's consumer writes what a broker holds for it",
    "buses": "thirty-two sensors on six buses: does each keep its schedule, dead devices or not",
    "canary": "known people pass; then every byte on disk, in the log and on the wire is searched",
    "counting": "people: recordings with known crossings, simulated crowds, doors and draughts",
    "decoders": "what each driver costs a frame",
    "delivery": "a million waiting records: how fast they leave, and what they cost until then",
    "doors": "what a user of the same machine sees of who passes: CPU time, wake-ups, memory",
    "forecast": "short forecasts against persistence, on the recorded winters",
    "pipeline": "what 8 to 64 sensors cost the thread between collectors and spool",
    "privacy": "what leaves about people: is epsilon kept, and does nothing else tell of them",
    "quality": "what it costs to judge and to summarise a window",
    "snow": "recorded winters below simulated snow gauges: what the city is told of them",
    "truth": "fifty gateways and the city, struck at random: does the database equal the truth",
}
