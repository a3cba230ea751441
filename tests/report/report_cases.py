"""A certificate of a world of four small countries, cheap enough to draw in every test.

SQ is a square with a hole, IS an island nation on both sides of the antimeridian, TI smaller than a tile, and NO
has no site. Gates and counter-metrics are real rows made by `seg1b.scoring.gates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.policy.gates import CORE_METRICS, HardGate
from seg1b.report.page import draw_maps
from seg1b.report.points import SitePoints
from seg1b.scoring.gates import GateReport, GateRow, counter_row, gate_row
from seg1b.scoring.measure import Measurement, SurfaceTally
from seg1b.scoring.results import CoreScore, CounterValue
from seg1b.scoring.score import Score
from seg1b.scoring.values import Metric, known, plain, unknown
from seg1b.world.content import CountryTable, Polygons, Settlements, World

ISO = ("IS", "NO", "SQ", "TI")
NAMES = ("Isles & Co", "Nobody", "Square <b>", "Tiny")
GATES = {
    "country_gini": (HardGate(op="<=", b=0.68, b_plus=0.60), 0.53),
    "top10_share": (HardGate(op="<=", b=0.50, b_plus=0.42), 0.37),
    "top5_share": (HardGate(op="<=", b=0.33, b_plus=0.27), 0.22),
    "top1_share": (HardGate(op="<=", b=0.10, b_plus=0.08), 0.06),
    "eligible_country_nonzero_share": (HardGate(op=">=", b=0.85, b_plus=0.92), 0.98),
    "southern_hemisphere_share": (HardGate(op=">=", b=0.12, b_plus=0.18), 0.20),
    "nn_p99_p50_ratio": (HardGate(op="<=", b=9.434384, b_plus=7.665437), 4.6),
}
COUNTERS: tuple[tuple[str, str | None, float, float | None, float | None], ...] = (
    ("population_pit_mean", "placement", 0.5, 0.47, 0.53),
    ("near_city_share_difference", "placement", -0.001, -0.03, 0.03),
    ("nn_p50_km", None, 0.4, 0.05, 1.5),
    ("duplicate_point_share", None, 0.0, None, 0.01),
    ("market_slope", None, 0.5, 0.4, None),
)
NOT_COMPUTABLE = "the median nearest-neighbour distance is zero"


def _square(lon: float, lat: float, side: float) -> list[tuple[float, float]]:
    east, north = lon + side, lat + side
    return [(lon, lat), (east, lat), (east, north), (lon, north), (lon, lat)]


def small_world() -> World:
    """The world."""
    rings = [
        (0, _square(178.0, -18.0, 2.0)),
        (0, _square(-180.0, -18.0, 1.0)),
        (1, _square(40.0, 60.0, 3.0)),
        (2, _square(0.0, 40.0, 10.0)),
        (2, _square(4.0, 44.0, 2.0)),
        (3, _square(11.0, 43.0, 0.01)),
    ]
    vertices = np.array([point for _, ring in rings for point in ring])
    start = np.cumsum([0] + [len(ring) for _, ring in rings]).astype(np.int64)
    n = len(ISO)
    countries = CountryTable(
        iso=ISO,
        name=NAMES,
        population=np.array([900_000, 0, 9_000_000, 30_000], np.int64),
        population_source=("made up",) * n,
        gdp_per_head=np.full(n, 1000.0),
        gdp_source=("made up",) * n,
        area_km2=np.ones(n),
        subregion=("Western Europe",) * n,
        macro_region=("Europe",) * n,
        eligible=np.array([True, False, True, True]),
        exclusion_reason=("", "nobody lives there", "", ""),
    )
    settlements = Settlements(
        lon_e5=np.array([17_900_000, 200_000, 850_000, 1_100_400], np.int32),
        lat_e5=np.array([-1_700_000, 4_200_000, 4_800_000, 4_300_500], np.int32),
        population=np.array([60_000, 900_000, 70_000, 30_000], np.int32),
        country=np.array([0, 2, 2, 3], np.int16),
        geonameid=np.arange(4, dtype=np.int32),
        name=["Port & Quay", "Łódź", "<script>", "Tinytown"],
    )
    polygons = Polygons(
        vertices[:, 0], vertices[:, 1], start, np.array([country for country, _ in rings], np.int16)
    )
    source = {"title": "Small world", "licence": "CC0", "attribution": "Made by hand.", "version": "1"}
    return World(countries, polygons, settlements, {"sources": {"hand": source}}, "ab" * 32)


def points(seed: int, sites: int = 900) -> SitePoints:
    """Sites in SQ, in IS on both sides of the antimeridian, and in TI."""
    random = np.random.default_rng(seed)
    country = np.sort(random.choice(np.array([0, 2, 3], np.int16), sites, p=[0.3, 0.6, 0.1]))
    u, v = random.random(sites), random.random(sites)
    west, south, side = np.array([[178.5, -18.0, 2.0], [0, 0, 0], [0.0, 40.0, 4.0], [11.0, 43.0, 0.01]])[
        country
    ].T
    lon = west + u * side
    return SitePoints(country, np.where(lon >= 180.0, lon - 360.0, lon), south + v * np.minimum(side, 1.0))


@dataclass
class Case:
    """What `write_report` is called with; tests change the parts they are about."""

    document: dict[str, Any]
    scores: dict[int, Score]
    pooled: Score
    points: dict[int, SitePoints]
    world: World

    def arguments(self) -> tuple[Any, ...]:
        """Everything after `add_bytes`."""
        first = int(self.document["seeds"][0]["seed"]) if self.document["seeds"] else None
        maps = draw_maps(None if first is None else self.points.get(first), first, self.world)
        return self.document, self.scores, self.pooled, maps, self.world

    def gate(self, seed: int, name: str) -> dict[str, Any]:
        """A gate's row of one seed."""
        rows = next(entry for entry in self.document["seeds"] if entry["seed"] == seed)["gates"]
        return next(row for row in rows if row["name"] == name)


def gate_rows(values: dict[str, float | None]) -> tuple[GateRow, ...]:
    """The core gates, a bootstrap gate, a region and a structural check; `values` replaces what was observed."""
    rows = []
    for name, (gate, usual) in GATES.items():
        value = values.get(name, usual)
        rows.append(gate_row(name, unknown(NOT_COMPUTABLE) if value is None else known(value), gate))
    rows.append(gate_row("bootstrap_upper.country_gini", known(0.55), GATES["country_gini"][0]))
    rows.append(gate_row("region_floor.Europe", known(0.3), HardGate(op=">=", b=0.15, b_plus=0.15)))
    duplicates = values.get("structural.duplicate_keys", 0.0)
    rows.append(
        gate_row("structural.duplicate_keys", known(duplicates or 0.0), HardGate(op="<=", b=0, b_plus=0))
    )
    return tuple(rows)


def counter_rows(values: dict[str, float | None]) -> list[dict[str, Any]]:
    """Counter-metrics as the certificate lists them."""
    rows = []
    for name, surface, usual, low, high in COUNTERS:
        value = values.get(name, usual)
        metric = unknown("there are no sites") if value is None else known(value)
        entry = plain(counter_row(CounterValue(name, surface, metric), low, high))
        entry["pass"] = entry.pop("passed")
        rows.append(entry)
    return rows


def score(seed: int | None, sites: SitePoints, *, neighbours: bool = True) -> Score:
    """A score with a plausible measurement."""
    n = len(sites)
    random = np.random.default_rng(1000 + (seed or 0))
    distance: npt.NDArray[np.float64] | None = random.lognormal(5.0, 1.0, n) if neighbours and n else None
    country, held = np.unique(sites.country, return_counts=True)
    measurement = Measurement(
        countries=len(ISO),
        seeds=1,
        merchant=np.arange(n),
        merchant_id=np.arange(n, dtype=np.uint64),
        pair_country=sites.country,
        pair_sites=np.ones(n, np.int64),
        pair_southern=(sites.lat_deg < 0).astype(np.int64),
        near_city=0,
        distance_m=distance,
        duplicates=0,
        surfaces=(
            SurfaceTally("placement", random.random(n), 0, country, np.zeros(len(country), np.int32), held),
        ),
    )
    levels = {"q50": 0.5, "q90": 0.9, "q99": 0.99}
    quantiles = {k: None if distance is None else float(np.quantile(distance, q)) for k, q in levels.items()}
    metrics: dict[str, Metric] = {name: known(GATES[name][1]) for name in CORE_METRICS}
    core = CoreScore(metrics, n, 3, 3, known(0.5), known(0.75), quantiles, {"Europe": known(1.0)})
    return Score(seed, measurement, core, (), {}, (), {}, GateReport((), ()))


def case(
    seeds: tuple[int, ...] = (42, 7, 101, 202),
    *,
    grade: str = "B+",
    gates: dict[int, dict[str, float | None]] | None = None,
    counters: dict[int, dict[str, float | None]] | None = None,
    reasons: tuple[str, ...] = (),
    denylist: tuple[str, ...] = (),
    sites: int = 900,
    neighbours: bool = True,
    own: tuple[str, ...] = (),
) -> Case:
    """A certification with `gates` and `counters` of some seeds replaced; `own`: what is not the packaged one."""
    gates, counters = gates or {}, counters or {}
    where = {seed: points(seed, sites) for seed in seeds}
    entries = [
        {
            "seed": seed,
            "status": "GREEN_B",
            "run_id": "0" * 32,
            "sites": sites,
            "logical_digest": f"{seed % 256:02x}" * 32,
            "checks": [{"name": "rows", "passed": True}],
            "guard": {"grade": "B_plus", "metrics": {"phi_cv": 0.15, "single_site_share": None}},
            "gates": plain(gate_rows(gates.get(seed, {}))),
            "counter_metrics": counter_rows(counters.get(seed, {})),
        }
        for seed in seeds
    ]
    document: dict[str, Any] = {
        "grade": grade,
        "cert_id": "9f3c1ab27de4" + "0" * 52,
        "reasons_against_b": list(reasons) if grade == "below_B" else [],
        "reasons_against_b_plus": list(reasons),
        "identity": {"world_digest": "ab" * 32, "gates_hash": "cd" * 32, "catalogue_origin": "synthesised"},
        "world": {
            "resolution_arcsec": 30,
            "tiles": 221_000_000,
            "not_eligible": {"NO": "nobody lives there"},
            "attribution": "Made by hand, with love.",
        },
        "denylist": list(denylist),
        "gates_are_the_packaged_ones": "gates" not in own,
        "parameters_are_the_packaged_ones": "parameters" not in own,
        "seeds_are_the_packaged_ones": "seeds" not in own,
        "world_is_the_packaged_one": "world" not in own,
        "baseline": {"metrics": {"country_gini": 0.75282}},
        "seeds": entries,
        "pooled": {
            "status": "GREEN_B",
            "gates": plain(gate_rows({})),
            "counter_metrics": counter_rows({}),
        },
        "stability": [_stability(name, gates, seeds) for name in CORE_METRICS],
        "country_shares": {
            "IS": {"prior": 0.2, "share": 0.3, "design_weight": 2 / 3},
            "NO": {"prior": 0.01, "share": 0.0, "design_weight": None},
            "SQ": {"prior": 0.7, "share": 0.6, "design_weight": 7 / 6},
            "TI": {"prior": 0.09, "share": 0.1, "design_weight": 0.9},
        },
    }
    scores = {seed: score(seed, where[seed], neighbours=neighbours) for seed in seeds}
    return Case(document, scores, score(None, points(0, sites), neighbours=neighbours), where, small_world())


def _stability(
    name: str, gates: dict[int, dict[str, float | None]], seeds: tuple[int, ...]
) -> dict[str, Any]:
    values = {str(seed): gates.get(seed, {}).get(name, GATES[name][1]) for seed in seeds}
    computable = len(seeds) > 1 and all(value is not None for value in values.values())
    return {
        "name": name,
        "values": values,
        "mean": 0.5 if computable else None,
        "sd": 0.01 if computable else None,
        "cv": 0.02 if computable else None,
        "limit_b": 0.3,
        "limit_b_plus": 0.2,
        "pass_b": computable,
        "pass_b_plus": computable,
        "status": "ok" if computable else "not_computable",
        "reason": "" if computable else "not_computable: fewer than two seeds",
        "sigma_interval": [0.0057, 0.0373] if computable else None,
    }
