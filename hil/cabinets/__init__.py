"""Broken cabinets: each has one thing wrong, and the doctor must name it first and nothing else."""

from .scenarios import CABINETS, Cabinet, skip_reason
from .workshop import Workshop

__all__ = ["CABINETS", "Cabinet", "Workshop", "skip_reason"]
