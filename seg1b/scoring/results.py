"""What scoring found, as plain records: nothing here computes, and nothing compiled is imported."""

from __future__ import annotations

from dataclasses import dataclass

from seg1b.scoring.values import Metric

OK, COLLAPSED, TOO_FEW = "ok", "collapsed", "insufficient_points"
"""Statuses of a `SentinelRow`."""


@dataclass(frozen=True)
class CoreScore:
    """Core metrics by name, and what else a reader of them wants to know."""

    metrics: dict[str, Metric]
    site_count: int
    active_countries: int
    eligible_countries: int
    eligible_country_gini: Metric
    all_country_nonzero_share: Metric
    nn_quantiles_m: dict[str, float | None]
    region_shares: dict[str, Metric]


@dataclass(frozen=True)
class CounterValue:
    """One counter-metric; `surface` names the population surface it was measured against, if any."""

    name: str
    surface: str | None
    metric: Metric


@dataclass(frozen=True)
class SentinelRow:
    """Verdict on one country. `anisotropy` is None where the sites lie exactly on a line or a point."""

    country_iso: str
    sites: int
    sampled: int
    status: str
    anisotropy: float | None = None
    linearity: float | None = None
    distinct_lat_share: float | None = None
    distinct_lon_share: float | None = None
    reason: str = ""
