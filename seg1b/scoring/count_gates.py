"""The gates that outlets per country decide, for one grade, with limits tightened by the width of intervals.

Where a gate asks for the end of a bootstrap interval, counts must stay inside its limit by the distance between the
observed value and that end. The distance is a property of merchants, so it is given: that of the catalogue at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.policy.gates import CounterMetric, GatesPolicy
from seg1b.policy.guard import holds
from seg1b.scoring.country_metrics import country_metrics, market_slope, prior_kl, region_shares
from seg1b.scoring.feasibility import NEIGHBOUR_METRIC, Feasibility

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]
Grade: TypeAlias = Literal["B", "B+"]


@dataclass(frozen=True)
class CountGates:
    """What counts int64[C] are judged by. Arrays of one entry per country.

    `closed`: countries that can have no outlets (S3 denies them); they stay in the denominators. `widths`: core
    metric -> distance from the observed value to the end of its interval that the gate is about.
    """

    eligible: Booleans
    macro_region: tuple[str, ...]
    south: Floats
    prior: Floats
    market: Floats
    gates: GatesPolicy
    grade: Grade
    closed: Booleans
    widths: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def served(self) -> Booleans:
        """Countries that can have outlets."""
        return self.eligible & (self.prior > 0.0) & ~self.closed

    def limit(self, name: str) -> float:
        """Threshold of a core metric, tightened by its width."""
        gate = next(gate for metric, gate in self.gates.hard_gates.items() if metric == name)
        threshold = gate.b if self.grade == "B" else gate.b_plus
        width = self.widths.get(name, 0.0)
        return threshold - width if gate.op == "<=" else threshold + width

    def failures(self, counts: Integers) -> tuple[str, ...]:
        """Names of the rows that counts decide and that fail, judged exactly."""
        metrics = country_metrics(counts, self.eligible)
        failing: list[str] = []
        for name, gate in self.gates.hard_gates.items():
            if name == NEIGHBOUR_METRIC:
                continue
            southern = name == "southern_hemisphere_share"
            value = self._southern(counts) if southern else metrics[name].value
            limit = self.limit(name)
            held = value is not None and (value <= limit if gate.op == "<=" else value >= limit)
            failing += [] if held else [name]
        shares = region_shares(counts, self.macro_region)
        for region, floor in self.gates.region_floors.items():
            value = shares[region].value if region in shares else 0.0
            failing += [] if value is not None and value >= floor else [f"region_floor.{region}"]
        judged: tuple[tuple[CounterMetric, float | None], ...] = (
            ("prior_kl", prior_kl(counts, self.prior).value),
            ("country_gini_lower_bound", metrics["country_gini"].value),
            ("market_slope", market_slope(counts, self.market).value),
        )
        for counter, value in judged:
            failing += [] if holds(self.gates.counter_metrics[counter], value) else [counter]
        return tuple(failing)

    def _southern(self, counts: Integers) -> float | None:
        """Expected southern share."""
        total = int(counts.sum())
        return math.fsum((counts * self.south).tolist()) / total if total else None


def interval_widths(found: Feasibility, gates: GatesPolicy) -> dict[str, float]:
    """Distance from the observed value to the end of the interval that a gate is about, of every metric that has one.

    Where that end proves nothing (`gates.bootstrap_rows`), the interval's own.
    """
    return {name: width for name, (width, _) in interval_room(found, gates, "B").items()}


def interval_room(found: Feasibility, gates: GatesPolicy, grade: Grade) -> dict[str, tuple[float, float]]:
    """(width, as `interval_widths` has it; room between the observed value and the threshold of `grade`)."""
    rows = {row.name: row for row in found.gates}
    room: dict[str, tuple[float, float]] = {}
    for name in gates.bootstrap.metrics:
        row = rows[name]
        if row.observed is None or row.ci95 is None:
            continue
        low, high = row.ci95
        width = max(0.0, high - row.observed if row.op == "<=" else row.observed - low)
        margin = row.margin_b if grade == "B" else row.margin_b_plus
        room[name] = width, 0.0 if margin is None else margin
    return room
