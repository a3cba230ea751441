"""What a catalogue can still reach: the gates that sites per country decide, before anything is placed.

Counts per country do not change after S3. Gini, top shares, coverage, region floors, market slope,
divergence from the prior and the largest merchant's share are exact here; the southern share is exact but
for countries that lie on the equator, whose sites are expected in proportion to their people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.bca import Interval
from seg1b.kernels.inequality import gini
from seg1b.policy.gates import GatesPolicy
from seg1b.scoring.country_metrics import (
    NO_SITES,
    country_metrics,
    largest_merchant_share,
    market_slope,
    prior_kl,
    region_shares,
)
from seg1b.scoring.gates import CounterRow, GateRow, bootstrap_rows, counter_rows, gate_row, region_rows
from seg1b.scoring.intervals import catalogue_intervals
from seg1b.scoring.results import CounterValue
from seg1b.scoring.values import Metric, exact_sum, known, rounded, unknown

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

NEIGHBOUR_METRIC = "nn_p99_p50_ratio"


@dataclass(frozen=True)
class Feasibility:
    """The rows that a catalogue decides. `southern_bounds`: share if no, or every, equatorial site lies
    south.
    """

    gates: tuple[GateRow, ...]
    counters: tuple[CounterRow, ...]
    southern_bounds: tuple[float, float] | None

    @property
    def reach(self) -> str:
        """Best grade that is still possible: "B+", "B" or "below_B"."""
        if not all(row.passed for row in self.counters) or not all(row.pass_b for row in self.gates):
            return "below_B"
        return "B+" if all(row.pass_b_plus for row in self.gates) else "B"

    def shortfall(self, grade: str) -> tuple[int, float]:
        """(rows that cannot be computed, sum over the other failing rows of how far each is outside, relative to its
        bound): counter-metrics count for either grade. Ascending from nearest to farthest; (0, 0.0) when none fails.
        """
        margins = [margin for _, margin in self._relative_margins(grade)]
        outside = [max(0.0, -margin) for margin in margins if margin is not None]
        return sum(margin is None for margin in margins), exact_sum(np.array(outside))

    def distance_to(self, grade: str) -> float:
        """The sum of `shortfall`; infinite if a row cannot be computed, since such a row fails."""
        unknown_rows, outside = self.shortfall(grade)
        return math.inf if unknown_rows else outside

    def margins(self, grade: str, *, counts_only: bool = False) -> tuple[tuple[float, str], ...]:
        """How far inside its bound every row is, relative to the bound, with its name: the tightest first.

        `counts_only`: without the rows that take merchants to know (intervals, the largest merchant's share).
        """
        rows = [
            (margin, name)
            for name, margin in self._relative_margins(grade)
            if margin is not None and not (counts_only and takes_merchants(name))
        ]
        return tuple(sorted(rows))

    def _relative_margins(self, grade: str) -> list[tuple[str, float | None]]:
        """Name and relative margin of every row, negative where it fails; None where it cannot be computed."""
        found: list[tuple[str, float | None]] = []
        for gate in self.gates:
            margin, limit = (gate.margin_b, gate.b) if grade == "B" else (gate.margin_b_plus, gate.b_plus)
            found.append((gate.name, None if margin is None else _relative(margin, limit)))
        for row in self.counters:
            sides = []
            if row.observed is not None:
                sides += [_relative(row.observed - row.min, row.min)] if row.min is not None else []
                sides += [_relative(row.max - row.observed, row.max)] if row.max is not None else []
            found.append((row.name, min(sides) if sides else None))
        return found


def takes_merchants(name: str) -> bool:
    """Whether the row `name` is not known from outlets per country alone."""
    return name.startswith("bootstrap_") or name == "largest_merchant_share"


def _relative(margin: float, limit: float) -> float:
    """`margin` relative to its bound; as it is where the bound is 0."""
    return rounded(margin / (abs(limit) or 1.0))


def southern_share(counts: IntArray, south: FloatArray) -> tuple[Metric, tuple[float, float] | None]:
    """Expected southern share, and its bounds; `south` float64[C]: share of a country's people south of 0
    degrees.
    """
    total = int(counts.sum())
    if total == 0:
        return unknown(NO_SITES), None
    low, high = int(counts[south >= 1.0].sum()) / total, int(counts[south > 0.0].sum()) / total
    return known(min(max(exact_sum(counts * south) / total, low), high)), (low, high)


def feasibility(
    merchant_id: npt.NDArray[np.uint64],
    country: npt.NDArray[np.int16],
    sites: npt.NDArray[np.integer[Any]],
    *,
    eligible: npt.NDArray[np.bool_],
    macro_region: tuple[str, ...],
    south: FloatArray,
    prior: FloatArray,
    market: FloatArray,
    gates: GatesPolicy,
    bootstrap: bool = True,
) -> Feasibility:
    """Judge a catalogue given as rows (merchant, country, number of sites), one row per pair, in any order.

    `bootstrap`: False leaves the rows of the intervals out.
    """
    countries = len(eligible)
    held = np.asarray(sites, np.int64)
    counts = np.zeros(countries, np.int64)
    np.add.at(counts, country, held)
    metrics = country_metrics(counts, eligible)
    metrics["southern_hemisphere_share"], bounds = southern_share(counts, south)
    merchant = np.unique(merchant_id, return_inverse=True)[1].astype(np.int64)
    intervals: dict[str, Interval | None] = {}
    if bootstrap and len(merchant):
        intervals = catalogue_intervals(merchant, country, held, eligible, gates.bootstrap)
    rows = [
        gate_row(name, metrics[name], gate, intervals.get(name))
        for name, gate in gates.hard_gates.items()
        if name != NEIGHBOUR_METRIC
    ]
    rows += bootstrap_rows(metrics, intervals, gates) if bootstrap else []
    rows += region_rows(region_shares(counts, macro_region), gates)
    lower = gini(counts[counts > 0])
    minimum = gates.counter_metric_parameters.largest_merchant_sites_min
    values = [
        CounterValue("market_slope", None, market_slope(counts, market)),
        CounterValue("country_gini_lower_bound", None, unknown(NO_SITES) if lower is None else known(lower)),
        CounterValue("prior_kl", None, prior_kl(counts, prior)),
        CounterValue(
            "largest_merchant_share",
            None,
            largest_merchant_share(merchant, country, held, countries, minimum),
        ),
    ]
    return Feasibility(tuple(rows), tuple(counter_rows(values, int(counts.sum()), gates)), bounds)
