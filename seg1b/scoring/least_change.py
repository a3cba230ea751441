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
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.inequality import top_count
from seg1b.policy.gates import CounterMetric, GatesPolicy
from seg1b.policy.guard import holds
from seg1b.scoring.country_metrics import country_metrics, market_slope, prior_kl, region_shares

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Grade: TypeAlias = Literal["B", "B+"]

_ROUNDS = 60
_RATIOS = (0.02, 0.1, 0.3, 0.6, 1.0, 1.6, 3.0, 8.0, 30.0)
"""Share over prior where the divergence is bounded from below from the start; the solution adds its own."""
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
    best: LeastChange | None = None
    for opened in problem.openings():
        problem.open(opened)
        for slack in _SLACKS:
            found = problem.solve(slack)
            if found is None:
                break
            wanted, prices = found
            rounded = np.maximum(np.rint(wanted), problem.floor).astype(np.int64)
            left = problem.failures(rounded)
            if not left or left == ("market_slope",):
                change = LeastChange(grade, rounded - counts, prices, left)
                best = change if best is None or change.moved < best.moved else best
                break
    return best or LeastChange(grade, None, {}, failing)


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
        self.served = eligible & (prior > 0.0)
        self.open(0)
        self.region = np.array(macro_region)

    def openings(self) -> list[int]:
        """How many missing countries may be opened: as coverage asks, as the divergence asks, and all of them."""
        held = self.served & (self.counts > 0)
        missing = self._missing()
        wanted = math.ceil(self.limit["eligible_country_nonzero_share"] * int(self.eligible.sum()))
        coverage = min(max(0, wanted - int(held.sum())), len(missing))
        kl_max = self.gates.counter_metrics["prior_kl"].max
        mass, opened = float(self.prior[held].sum()), coverage
        mass += float(self.prior[missing[:opened]].sum())
        # shares of countries with so much of the prior diverge from it by -log(mass) at least
        while kl_max is not None and opened < len(missing) and mass < math.exp(-0.5 * kl_max):
            mass += float(self.prior[missing[opened]])
            opened += 1
        return sorted({coverage, opened, len(missing)})

    def open(self, countries: int) -> None:
        """Take so many of the missing countries, the largest markets first, into the problem."""
        self.floor = np.where(
            self.served, np.minimum(self.counts, 1), 0
        )  # outlets without a market have to go
        self.floor[self._missing()[:countries]] = 1
        self.active = np.flatnonzero(self.floor)

    def _missing(self) -> list[int]:
        order = np.argsort(-self.prior, kind="stable").tolist()
        return [c for c in order if self.served[c] and not self.counts[c]]

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
        from scipy.sparse import lil_matrix

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
        prior, kl_max = self.prior[self.active], self.gates.counter_metrics["prior_kl"].max
        kl_limit = math.inf if kl_max is None else kl_max * (1.0 - slack)
        tangents = [(i, ratio) for i in range(n) for ratio in _RATIOS] if kl_max is not None else []
        total_row = np.concatenate((-np.ones(n), np.ones(n), np.zeros(n), [1.0]))[None, :]
        width = 3 * n + 1
        cost = np.concatenate((cost, np.zeros(n + 1)))
        bounds += [(None, None)] * n + [(0.0, None)]
        for _ in range(_ROUNDS):
            rows = len(cuts) + 1
            matrix = lil_matrix((rows + len(tangents), width))
            right = np.zeros(rows + len(tangents))
            for row, cut in enumerate(cuts):
                matrix[row, : 2 * n] = np.concatenate((cut.weights, -cut.weights))
                right[row] = -float(cut.weights @ start)
            if kl_max is not None:
                matrix[rows - 1, 2 * n : 3 * n] = 1.0
                matrix[rows - 1, 3 * n] = -kl_limit
            for row, (i, ratio) in enumerate(tangents, start=rows):
                # x log(x / (p X)) lies above its tangent planes; this is the one at x = ratio p X
                slope = math.log(ratio) + 1.0
                matrix[row, i], matrix[row, n + i], matrix[row, 2 * n + i] = slope, -slope, -1.0
                matrix[row, 3 * n] = -float(prior[i]) * ratio
                right[row] = -slope * float(start[i])
            inequalities: Any = matrix.tocsr()  # the stubs know dense matrices only
            result = linprog(
                cost, A_ub=inequalities, b_ub=right, A_eq=total_row, b_eq=[float(start.sum())], bounds=bounds,
                method="highs",
            )  # fmt: skip
            if result.status != 0:
                return None
            moves = np.asarray(result.x, np.float64)
            solution = start + moves[:n] - moves[n : 2 * n]
            fresh, share = self.violated(solution, slack), solution / float(solution.sum())
            divergence = float((share * np.log(share / prior)).sum()) if kl_max is not None else -math.inf
            if not fresh and divergence <= kl_limit * (1.0 + 0.5 * slack):
                prices: dict[str, float] = {}
                named = [*(cut.gate for cut in cuts), "prior_kl"]
                for gate, price in zip(named, -result.ineqlin.marginals[:rows], strict=True):
                    if price > 1e-9:
                        worth = 0.01 * float(price) * float(solution.sum())
                        prices[gate] = prices.get(gate, 0.0) + worth
                whole = np.zeros(len(self.counts))
                whole[self.active] = solution
                return whole, dict(sorted(prices.items(), key=lambda item: -item[1]))
            cuts += fresh
            if divergence > kl_limit:
                tangents += [(i, float(share[i] / prior[i])) for i in range(n)]
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
        # thresholds are tightened by `slack`, so half of it may be missed: far fewer rounds
        allowed = {cut.gate: 0.5 * slack * self.limit[cut.gate] for cut in cuts}
        return [cut for cut in cuts if float(cut.weights @ counts) > allowed[cut.gate] * total]
