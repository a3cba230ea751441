"""The least change of outlets per country that would bring a catalogue to a grade, and what each gate costs.

Added plus removed outlets are minimised subject to the gates that counts decide. With the set of active countries
fixed these are convex: a sum of the k largest, a Gini, and a divergence are maxima over linear functions, so each
violated one is cut off by the linear function that is largest at the present solution, and a linear programme is
solved again (Kelley's method). Missing countries that coverage asks for are opened by market prior, an outlet each.
The solution is rounded to whole outlets and judged again by the exact gates; thresholds are tightened a little until
rounding holds. What takes merchants to judge (intervals, the largest merchant) and the market slope
are judged or named, not priced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.inequality import top_count
from seg1b.policy.gates import CounterMetric, GatesPolicy
from seg1b.policy.guard import holds
from seg1b.scoring.counter_metrics import market_slope, prior_kl
from seg1b.scoring.metrics import country_metrics, region_shares

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Grade: TypeAlias = Literal["B", "B+"]

_ROUNDS = 100
_SLACKS = (0.002, 0.01, 0.03)
"""Relative tightening of thresholds before rounding, tried in turn."""


@dataclass(frozen=True)
class LeastChange:
    """How to reach a grade. `change` int64[C]: outlets to add (or, negative, to remove); None if none was found.

    `prices`: gate -> outlets of change that a threshold milder by .01 would save; gates without a price do not bind.
    `unmet`: rows that the changed counts still fail, with why (they take more than a move of outlets).
    """

    grade: Grade
    change: Integers | None
    prices: dict[str, float]
    unmet: tuple[str, ...]

    @property
    def moved(self) -> int:
        """Outlets added and removed."""
        return 0 if self.change is None else int(np.abs(self.change).sum())


@dataclass(frozen=True)
class _Cut:
    """`weights` @ counts <= 0, of one gate; a threshold milder by 1 gives back `scale` @ counts."""

    gate: str
    weights: Floats


def least_change(
    counts: Integers,
    *,
    eligible: npt.NDArray[np.bool_],
    macro_region: Sequence[str],
    south: Floats,
    prior: Floats,
    market: Floats,
    gates: GatesPolicy,
    grade: Grade,
) -> LeastChange:
    """The least change of `counts` int64[C] that reaches `grade`, as far as counts decide it."""
    problem = _Problem(counts, eligible, tuple(macro_region), south, prior, market, gates, grade)
    if not (failing := problem.failures(counts)):
        return LeastChange(grade, np.zeros_like(counts), {}, ())
    for slack in _SLACKS:
        found = problem.solve(slack)
        if found is None:
            break
        wanted, prices = found
        rounded = np.maximum(np.rint(wanted), problem.floor).astype(np.int64)
        failing = problem.failures(rounded)
        if not failing or failing == ("market_slope",):
            return LeastChange(grade, rounded - counts, prices, failing)
    return LeastChange(grade, None, {}, failing)


class _Problem:
    """One catalogue and one grade."""

    def __init__(
        self,
        counts: Integers,
        eligible: npt.NDArray[np.bool_],
        macro_region: tuple[str, ...],
        south: Floats,
        prior: Floats,
        market: Floats,
        gates: GatesPolicy,
        grade: Grade,
    ) -> None:
        self.counts, self.eligible, self.macro_region = counts, eligible, macro_region
        self.south, self.prior, self.market, self.gates = south, prior, market, gates
        self.limit: dict[str, float] = {
            name: gate.b if grade == "B" else gate.b_plus for name, gate in gates.hard_gates.items()
        }
        served = eligible & (prior > 0.0)
        self.floor = np.where(served, np.minimum(counts, 1), 0)  # outlets where no market is have to go
        wanted = math.ceil(self.limit["eligible_country_nonzero_share"] * int(eligible.sum()))
        missing = [c for c in np.argsort(-prior, kind="stable").tolist() if served[c] and not counts[c]]
        self.floor[missing[: max(0, wanted - int((served & (counts > 0)).sum()))]] = 1
        self.active = np.flatnonzero(self.floor)
        self.region = np.array(macro_region)

    def failures(self, counts: Integers) -> tuple[str, ...]:
        """Names of the rows that counts decide and that fail, judged exactly."""
        metrics = country_metrics(counts, self.eligible)
        failing: list[str] = []
        for name, gate in self.gates.hard_gates.items():
            value = self.southern(counts) if name == "southern_hemisphere_share" else None
            value = metrics[name].value if name in metrics else value
            if name == "nn_p99_p50_ratio":
                continue
            held = value is not None and (
                value <= self.limit[name] if gate.op == "<=" else value >= self.limit[name]
            )
            failing += [] if held else [name]
        shares = region_shares(counts, self.macro_region)
        for region, floor in self.gates.region_floors.items():
            value = shares[region].value if region in shares else 0.0
            failing += [] if value is not None and value >= floor else [f"region_floor.{region}"]
        bands = self.gates.counter_metrics
        low = metrics["country_gini"].value
        judged: tuple[tuple[CounterMetric, float | None], ...] = (
            ("prior_kl", prior_kl(counts, self.prior).value),
            ("country_gini_lower_bound", low),
            ("market_slope", market_slope(counts, self.market).value),
        )
        for counter, value in judged:
            failing += [] if holds(bands[counter], value) else [counter]
        return tuple(failing)

    def southern(self, counts: Integers) -> float | None:
        """Expected southern share."""
        total = int(counts.sum())
        return math.fsum((counts * self.south).tolist()) / total if total else None

    def solve(self, slack: float) -> tuple[Floats, dict[str, float]] | None:
        """Real counts (C,) and prices, or None where no counts of these countries will do."""
        from scipy.optimize import linprog  # slow to import, and only few catalogues are asked about

        n = len(self.active)
        start = self.counts[self.active].astype(np.float64)
        cost = np.ones(2 * n)
        cost[:n] += 1e-6 * (1.0 - self.prior[self.active])  # of equal additions, the larger market's
        can_grow = self.eligible[self.active] & (self.prior[self.active] > 0.0)
        least = self.floor[self.active].astype(np.float64)
        bounds = [
            *((max(0.0, low - now), None if grows else max(0.0, low - now))
              for low, now, grows in zip(least, start, can_grow, strict=True)),
            *((0.0, max(0.0, now - low)) for low, now in zip(least, start, strict=True)),
        ]  # fmt: skip
        cuts = self.linear_cuts(slack)
        solution = start
        for _ in range(_ROUNDS):
            matrix = np.array([np.concatenate((cut.weights, -cut.weights)) for cut in cuts])
            right = np.array([-float(cut.weights @ start) for cut in cuts])
            result = linprog(cost, A_ub=matrix, b_ub=right, bounds=bounds, method="highs")
            if result.status != 0:
                return None
            moves = np.asarray(result.x, np.float64)
            solution = start + moves[:n] - moves[n:]
            fresh = self.violated(solution, slack)
            if not fresh:
                prices: dict[str, float] = {}
                for cut, price in zip(cuts, -result.ineqlin.marginals, strict=True):
                    if price > 1e-9:
                        worth = 0.01 * float(price) * float(solution.sum())
                        prices[cut.gate] = prices.get(cut.gate, 0.0) + worth
                whole = np.zeros(len(self.counts))
                whole[self.active] = solution
                return whole, dict(sorted(prices.items(), key=lambda item: -item[1]))
            cuts += fresh
        return None

    def linear_cuts(self, slack: float) -> list[_Cut]:
        """Southern share and region floors: linear from the start."""
        active = self.active
        southern = self.limit["southern_hemisphere_share"]
        rows: list[tuple[str, Floats, float]] = [
            ("southern_hemisphere_share", self.south[active].astype(np.float64), southern)
        ]
        rows += [
            (f"region_floor.{name}", (self.region[active] == name).astype(np.float64), floor)
            for name, floor in self.gates.region_floors.items()
        ]
        return [_Cut(name, floor * (1.0 + slack) - inside) for name, inside, floor in rows]

    def violated(self, counts: Floats, slack: float) -> list[_Cut]:
        """The tightest linear bound of every convex gate that these counts (of active countries) break."""
        n, total = len(counts), float(counts.sum())
        descending = np.argsort(-counts, kind="stable")
        cuts = []
        for percent in (1, 5, 10):
            inside = np.zeros(n)
            inside[descending[: top_count(n, percent)]] = 1.0
            cuts.append(
                _Cut(f"top{percent}_share", inside - self.limit[f"top{percent}_share"] * (1.0 - slack))
            )
        weights = np.empty(n)
        weights[descending] = (n + 1 - 2 * np.arange(1, n + 1)) / n
        cuts.append(_Cut("country_gini", weights - self.limit["country_gini"] * (1.0 - slack)))
        prior = self.prior[self.active]
        kl_max = self.gates.counter_metrics["prior_kl"].max
        if kl_max is not None:
            # sum x log(x / (p X)) over countries with a prior is convex and homogeneous: its gradient is a cut
            both = (prior > 0.0) & (counts > 0.0)
            inside_total = float(counts[both].sum())
            gradient = np.zeros(n)
            gradient[both] = np.log(counts[both] / inside_total / prior[both])
            cuts.append(_Cut("prior_kl", gradient - np.where(both, kl_max * (1.0 - slack), 0.0)))
        # thresholds are tightened by `slack`, so half of it may be missed: far fewer rounds
        allowed = {cut.gate: 0.5 * slack * self.limit.get(cut.gate, kl_max or 0.0) for cut in cuts}
        return [cut for cut in cuts if float(cut.weights @ counts) > allowed[cut.gate] * total]
