"""What to do about a gate that failed: which part of the chain moves it, and which cannot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seg1b.scoring.gates import GateReport, counter_key

COUNTRY_MASS = (
    "Sites per country are fixed by the catalogue at S3; nothing after it can move this. Reopen the "
    "catalogue (country shares of its synthesis), or bring one that is spread more evenly."
)
COVERAGE = (
    "A country without sites gets none after S3. Give the missing countries sites in the catalogue, and "
    "check the denylist: its countries stay in the denominator."
)
NEIGHBOUR_TAIL = (
    "Decided by placement: lower S4's dispersed share, which makes the tail, or its sites per trade area; a larger "
    "sparse component of S6 narrows the ratio too. Check S2's population mix."
)
NEIGHBOURS_TOO_NEAR = (
    "Decided by placement: lower S4's sites per trade area, or raise S6's sparse component; "
    "both move sites apart."
)
NEIGHBOURS_TOO_FAR = (
    "Decided by placement: raise S4's sites per trade area, or lower S6's sparse component; "
    "both move sites together."
)
ISOLATED = "Decided by placement: lower S4's dispersed share; nothing else isolates sites as much."
PLACEMENT = "Decided by placement: S2's mix and surface say where people live, S4 how sites follow them."
STRUCTURE = "A structural defect: the code or the store is wrong. Fix that before touching any policy."

_BY_PREFIX: tuple[tuple[str, str], ...] = (
    ("structural.", STRUCTURE),
    ("region_floor.", COUNTRY_MASS),
    (
        "bootstrap_",
        COUNTRY_MASS + " A few large merchants widen the interval: cap their outlets per country.",
    ),
    ("no_regression.nn_", NEIGHBOUR_TAIL),
    ("no_regression.", COUNTRY_MASS),
    ("eligible_country_nonzero_share", COVERAGE),
    ("southern_hemisphere_share", COUNTRY_MASS + " Only countries on the equator move with placement."),
    ("nn_p99_p50_ratio", NEIGHBOUR_TAIL),
    ("nn_isolated", ISOLATED),
    ("nn_", NEIGHBOURS_TOO_FAR),
    ("country_gini", COUNTRY_MASS),
    ("top", COUNTRY_MASS),
    (
        "cv ",
        "Cut the catalogue's size tail and caps: seeds differ by their largest chains.",
    ),
    (
        "collapse_sentinel",
        "Sites form a strip or a lattice: see S4's trade areas and S6's anchors there.",
    ),
    ("duplicate_point_share", "Sites share points: S6's jitter is too narrow for so many sites in a tile."),
    ("market_slope", COUNTRY_MASS),
    ("prior_kl", COUNTRY_MASS),
    (
        "largest_merchant_share",
        "One chain dominates a small country: cap its outlets there in the catalogue.",
    ),
)


def advice(name: str, *, too_low: bool = False) -> str:
    """What to do about the failed row `name`; `too_low`: it fails at the lower end of its band.

    Directions are those that the default workload showed, one knob at a time (`seg1b tune`).
    """
    if too_low and name.startswith("nn_"):
        return NEIGHBOURS_TOO_NEAR
    for prefix, text in _BY_PREFIX:
        if name.startswith(prefix):
            return text
    return PLACEMENT


def triage(report: GateReport, grade: str = "B+") -> list[dict[str, str]]:
    """One entry {name, reason, advice} per row that fails for the grade."""
    reasons = {row.name: row.reason for row in report.gates}
    counters = {counter_key(row.name, row.surface): row for row in report.counters}
    reasons |= {name: row.reason for name, row in counters.items()}
    low = {
        name
        for name, row in counters.items()
        if row.observed is not None and row.min is not None and row.observed < row.min
    }
    return [
        {"name": name, "reason": reasons[name], "advice": advice(name, too_low=name in low)}
        for name in report.failed(grade)
    ]


def heaviest_countries(
    counts: npt.NDArray[np.int64], prior: npt.NDArray[np.float64], iso: Sequence[str], at_most: int = 5
) -> list[str]:
    """Countries that hold most above their prior share: the ones that a Gini or top-share failure is
    about.
    """
    total, mass = int(counts.sum()), float(prior.sum())
    if total == 0 or mass <= 0.0:
        return []
    excess = counts / total - prior / mass
    order = np.argsort(-excess, kind="stable")[:at_most]
    return [iso[c] for c in order.tolist() if excess[c] > 0.0]
