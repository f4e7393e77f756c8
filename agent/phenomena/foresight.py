"""A forecast beside what a sensor measured, or what was computed from it.

The value of the window's end goes to the forecaster of a quantity; what it is willing to publish is
in the record as `forecast_QUANTITY`, and nothing where it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..record import tidy, utc_text
from .closed import Closed, Facts, Phenomenon
from .forecast import Forecast, Forecaster


class Foresight:
    """A phenomenon, and the forecast of one quantity that it computes or that is measured."""

    def __init__(self, inner: Phenomenon, quantity: str, forecaster: Forecaster) -> None:
        self._inner = inner
        self._quantity = quantity
        self._forecaster = forecaster

    @property
    def facts(self) -> Facts:
        """What the inner one knows."""
        return self._inner.facts

    def derive(self, closed: Closed) -> dict[str, object]:
        """Return the inner one's values, and the forecast where there is one."""
        values = self._inner.derive(closed)
        if not closed.is_timed:  # its place among the others is not known
            return values
        computed = values.get(self._quantity)
        value = (
            float(computed) if isinstance(computed, int | float) else closed.number(self._quantity)
        )
        forecast = self._forecaster.update(closed.end_ns / 1e9, value)
        if forecast is not None:
            values[f"forecast_{self._quantity}"] = _json(forecast, closed.end_ns)
        return values

    def state(self) -> dict[str, Any]:
        """Return the state of both."""
        return {"inner": self._inner.state(), "forecaster": self._forecaster.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state of both. Raises ValueError where it makes no sense."""
        inner, forecaster = state.get("inner"), state.get("forecaster")
        if not isinstance(inner, Mapping) or not isinstance(forecaster, Mapping):
            raise ValueError("no state of a forecast")
        self._inner.restore(inner)
        self._forecaster.restore(forecaster)


def _json(forecast: Forecast, end_ns: int) -> dict[str, object]:
    """Return the contract's object."""
    return {
        "at": utc_text(end_ns + round(forecast.in_s * 1e9)),
        "value": tidy(forecast.value),
        "low": tidy(forecast.low),
        "high": tidy(forecast.high),
        "skill": tidy(round(forecast.skill, 3)),
    }
