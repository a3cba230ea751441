"""The least change of counts as a linear programme, as far as its gates are convex.

With the set of active countries fixed, a sum of the k largest, a Gini and a divergence are maxima over linear
functions, so each violated one is cut off by the linear function that is largest at the present solution, and the
programme is solved again (Kelley's method). The lower bound of the Gini and the market slope are not convex and not
here: whoever rounds the solution judges them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from seg1b.kernels.inequality import top_count
from seg1b.scoring.count_gates import CountGates, Floats, Integers

_ROUNDS = 60
_RATIOS = (0.02, 0.1, 0.3, 0.6, 1.0, 1.6, 3.0, 8.0, 30.0)
"""Share over prior where the divergence is bounded from below from the start; the solution adds its own."""


@dataclass(frozen=True)
class _Cut:
    """`weights` @ counts <= 0, of one gate; a threshold milder by 1 gives back the total of the counts."""

    gate: str
    weights: Floats


class ChangeProgramme:
    """The programme of one catalogue, counts int64[C], and one grade."""

    def __init__(self, counts: Integers, rules: CountGates) -> None:
        self.counts, self.rules = counts, rules
        self.region = np.array(rules.macro_region)
        self.open(0)

    def openings(self) -> list[int]:
        """How many missing countries may be opened: as coverage asks, as the divergence asks, and all of them."""
        rules = self.rules
        held = rules.served & (self.counts > 0)
        missing = self._missing()
        wanted = math.ceil(rules.limit("eligible_country_nonzero_share") * int(rules.eligible.sum()))
        coverage = min(max(0, wanted - int(held.sum())), len(missing))
        kl_max = rules.gates.counter_metrics["prior_kl"].max
        mass, opened = float(rules.prior[held].sum()), coverage
        mass += float(rules.prior[missing[:opened]].sum())
        # shares of countries with so much of the prior diverge from it by -log(mass) at least
        while kl_max is not None and opened < len(missing) and mass < math.exp(-0.5 * kl_max):
            mass += float(rules.prior[missing[opened]])
            opened += 1
        return sorted({coverage, opened, len(missing)})

    def open(self, countries: int) -> None:
        """Take so many of the missing countries, the largest markets first, into the problem."""
        # outlets without a market have to go
        self.floor = np.where(self.rules.served, np.minimum(self.counts, 1), 0)
        self.floor[self._missing()[:countries]] = 1
        self.active = np.flatnonzero(self.floor)

    def _missing(self) -> list[int]:
        order = np.argsort(-self.rules.prior, kind="stable").tolist()
        return [c for c in order if self.rules.served[c] and not self.counts[c]]

    def solve(self, slack: float) -> tuple[Floats, dict[str, float]] | None:
        """Real counts (C,) and prices, or None where no counts of these countries were found.

        `slack`: relative tightening of thresholds. Prices: gate -> outlets that a threshold milder by .01 would save.
        """
        from scipy.optimize import linprog  # slow to import, and only few catalogues are asked about

        n = len(self.active)
        if not n:
            return None
        start = self.counts[self.active].astype(np.float64)
        prior = self.rules.prior[self.active] / math.fsum(self.rules.prior)
        least = self.floor[self.active].astype(np.float64)
        bounds = np.zeros((3 * n + 1, 2))  # added, removed, share of the divergence, total
        bounds[:n] = np.column_stack((np.maximum(0.0, least - start), np.full(n, np.inf)))
        bounds[n : 2 * n, 1] = np.maximum(0.0, start - least)
        bounds[2 * n : 3 * n] = -np.inf, np.inf
        bounds[3 * n, 1] = np.inf
        # of equal additions, the larger market's
        cost = np.concatenate((1.0 + 1e-6 * (1.0 - prior), np.ones(n), np.zeros(n + 1)))
        total_row = np.concatenate((-np.ones(n), np.ones(n), np.zeros(n), [1.0]))[None, :]
        cuts = self._linear_cuts(slack)
        kl_max = self.rules.gates.counter_metrics["prior_kl"].max
        kl_limit = math.inf if kl_max is None else kl_max * (1.0 - slack)
        country, ratio = np.repeat(np.arange(n), len(_RATIOS)), np.tile(_RATIOS, n)
        for _ in range(_ROUNDS):
            rows = len(cuts) + 1
            matrix, right = _convex_rows(cuts, start, kl_max is not None, kl_limit)
            if kl_max is not None:
                matrix, right = _with_tangents(matrix, right, country, ratio, prior, start)
            result = linprog(
                cost, A_ub=matrix, b_ub=right, A_eq=total_row, b_eq=[float(start.sum())], bounds=bounds,
                method="highs",
            )  # fmt: skip
            if result.status != 0:
                return None
            moves = np.asarray(result.x, np.float64)
            solution = start + moves[:n] - moves[n : 2 * n]
            fresh, share = self._violated(solution, slack), solution / float(solution.sum())
            divergence = float((share * np.log(share / prior)).sum()) if kl_max is not None else -math.inf
            if not fresh and divergence <= kl_limit * (1.0 + 0.5 * slack):
                whole = np.zeros(len(self.counts))
                whole[self.active] = solution
                return whole, _prices(cuts, -result.ineqlin.marginals[:rows], float(solution.sum()))
            cuts += fresh
            if divergence > kl_limit:
                country = np.concatenate((country, np.arange(n)))
                ratio = np.concatenate((ratio, share / prior))
        return None

    def _linear_cuts(self, slack: float) -> list[_Cut]:
        """Southern share and region floors: linear from the start."""
        active, rules = self.active, self.rules
        southern = rules.limit("southern_hemisphere_share")
        rows: list[tuple[str, Floats, float]] = [
            ("southern_hemisphere_share", rules.south[active].astype(np.float64), southern)
        ]
        rows += [
            (f"region_floor.{name}", (self.region[active] == name).astype(np.float64), floor)
            for name, floor in rules.gates.region_floors.items()
        ]
        return [_Cut(name, floor * (1.0 + slack) - inside) for name, inside, floor in rows]

    def _violated(self, counts: Floats, slack: float) -> list[_Cut]:
        """The tightest linear bound of every convex gate that these counts (of active countries) break."""
        n, total = len(counts), float(counts.sum())
        descending = np.argsort(-counts, kind="stable")
        limit = {f"top{percent}_share": self.rules.limit(f"top{percent}_share") for percent in (1, 5, 10)}
        limit["country_gini"] = self.rules.limit("country_gini")
        cuts = []
        for percent in (1, 5, 10):
            inside = np.zeros(n)
            inside[descending[: top_count(n, percent)]] = 1.0
            name = f"top{percent}_share"
            cuts.append(_Cut(name, inside - limit[name] * (1.0 - slack)))
        weights = np.empty(n)
        weights[descending] = (n + 1 - 2 * np.arange(1, n + 1)) / n
        cuts.append(_Cut("country_gini", weights - limit["country_gini"] * (1.0 - slack)))
        # thresholds are tightened by `slack`, so half of it may be missed: far fewer rounds
        return [
            cut for cut in cuts if float(cut.weights @ counts) > 0.5 * slack * abs(limit[cut.gate]) * total
        ]


def _convex_rows(cuts: list[_Cut], start: Floats, divergence: bool, kl_limit: float) -> tuple[Any, Floats]:
    """Rows of the cuts, then one that bounds the sum of the divergence's shares; and their right sides."""
    n = len(start)
    rows, right = np.zeros((len(cuts) + 1, 3 * n + 1)), np.zeros(len(cuts) + 1)
    for row, cut in enumerate(cuts):
        rows[row, :n], rows[row, n : 2 * n] = cut.weights, -cut.weights
        right[row] = -float(cut.weights @ start)
    if divergence:
        rows[-1, 2 * n : 3 * n], rows[-1, 3 * n] = 1.0, -kl_limit
    return rows, right


def _with_tangents(
    rows: Floats, right: Floats, country: Integers, ratio: Floats, prior: Floats, start: Floats
) -> tuple[Any, Floats]:
    """The rows, and below them one for each tangent plane of x log(x / (p X)), at x = `ratio` p X of a country."""
    from scipy.sparse import csr_matrix, vstack

    n, k = len(start), len(country)
    slope = np.log(ratio) + 1.0
    columns = np.column_stack((country, n + country, 2 * n + country, np.full(k, 3 * n)))
    values = np.column_stack((slope, -slope, -np.ones(k), -prior[country] * ratio))
    tangents = csr_matrix((values.ravel(), columns.ravel(), np.arange(0, 4 * k + 1, 4)), shape=(k, 3 * n + 1))
    return vstack((csr_matrix(rows), tangents), format="csr"), np.concatenate(
        (right, -slope * start[country])
    )


def _prices(cuts: list[_Cut], price: Floats, total: float) -> dict[str, float]:
    """Outlets that a threshold milder by .01 would save, by gate, the dearest first."""
    prices: dict[str, float] = {}
    for gate, worth in zip([*(cut.gate for cut in cuts), "prior_kl"], price.tolist(), strict=True):
        if worth > 1e-9:
            prices[gate] = prices.get(gate, 0.0) + 0.01 * worth * total
    return dict(sorted(prices.items(), key=lambda item: -item[1]))
