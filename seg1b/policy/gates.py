"""Models of `config/gates.yaml` and `config/certification.yaml`: what is judged, not how data is made."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from seg1b.policy.base import (
    MacroRegion,
    PolicyModel,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    check_fields_ascending,
    check_region_floors,
    fail,
)

CoreMetric = Literal[
    "country_gini",
    "top10_share",
    "top5_share",
    "top1_share",
    "eligible_country_nonzero_share",
    "southern_hemisphere_share",
    "nn_p99_p50_ratio",
]
CORE_METRICS: tuple[CoreMetric, ...] = get_args(CoreMetric)

CounterMetric = Literal[
    "population_pit_mean",
    "population_pit_ks",
    "unpopulated_tile_share",
    "near_city_share_difference",
    "population_correlation_1deg",
    "nn_p50_km",
    "nn_p90_km",
    "nn_isolated_10km_share",
    "duplicate_point_share",
    "market_slope",
    "country_gini_lower_bound",
    "prior_kl",
    "largest_merchant_share",
]
COUNTER_METRICS: tuple[CounterMetric, ...] = get_args(CounterMetric)


def _require_all(present: object, names: tuple[str, ...]) -> None:
    assert isinstance(present, dict)
    missing = [name for name in names if name not in present]
    if missing:
        fail("E_POLICY_MISSING_KEY", f"missing: {', '.join(missing)}")


class Baseline(PolicyModel):
    """The published baseline run."""

    site_count: PositiveInt = Field(description="Sites of the baseline run.")
    active_countries: PositiveInt = Field(description="Countries with at least one site.")
    countries: PositiveInt = Field(description="Countries in the coverage denominator.")
    metrics: dict[CoreMetric, float] = Field(description="Its value of every core metric.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require_all(self.metrics, CORE_METRICS)
        check_fields_ascending(self, "active_countries", "countries")
        return self


class HardGate(PolicyModel):
    """observed op threshold, with a threshold for each grade."""

    op: Literal["<=", ">="] = Field(description="How the observed value must stand to the threshold.")
    b: float = Field(description="Threshold of grade B.")
    b_plus: float = Field(description="Threshold of grade B+; never milder than B's.")

    @model_validator(mode="after")
    def _b_plus_is_stricter(self) -> Self:
        if (self.b_plus > self.b) if self.op == "<=" else (self.b_plus < self.b):
            message = f"with {self.op} the B+ threshold {self.b_plus!r} is milder than B's {self.b!r}"
            fail("E_POLICY_GATE_ORDER", message)
        return self


class CoefficientOfVariation(PolicyModel):
    """Largest cross-seed coefficient of variation of every core metric."""

    b: PositiveFloat = Field(description="Limit of grade B.")
    b_plus: PositiveFloat = Field(description="Limit of grade B+; never milder than B's.")

    @model_validator(mode="after")
    def _b_plus_is_stricter(self) -> Self:
        check_fields_ascending(self, "b_plus", "b", code="E_POLICY_GATE_ORDER")
        return self


class BootstrapPolicy(PolicyModel):
    """Bootstrap over merchants: the interval's upper end must be under the gate."""

    metrics: Annotated[tuple[CoreMetric, ...], Field(strict=False)] = Field(
        description="Core metrics whose interval is judged."
    )
    replicates: int = Field(ge=100, le=1_000_000, description="Number of resamples.")
    confidence: float = Field(gt=0.5, lt=1.0, description="Two-sided confidence of the interval.")
    method: Literal["bca"] = Field(description="Bias-corrected and accelerated interval.")
    seed: Seed = Field(description="Fixed seed of the resampling.")

    @field_validator("metrics")
    @classmethod
    def _unique(cls, value: tuple[CoreMetric, ...]) -> tuple[CoreMetric, ...]:
        if len(set(value)) != len(value):
            fail("E_POLICY_VALUE", "a metric is listed more than once")
        return tuple(metric for metric in CORE_METRICS if metric in value)


class Band(PolicyModel):
    """Inclusive limits of a counter-metric; null is no limit on that side."""

    min: float | None = Field(description="Smallest value that passes, or null.")
    max: float | None = Field(description="Largest value that passes, or null.")

    @model_validator(mode="after")
    def _can_fail_and_can_pass(self) -> Self:
        if self.min is None and self.max is None:
            fail("E_POLICY_VALUE", "a band without min and max can never fail; set one of them")
        if self.min is not None and self.max is not None:
            check_fields_ascending(self, "min", "max", code="E_POLICY_GATE_ORDER")
        return self


class CounterMetricParameters(PolicyModel):
    """Definitions that the counter-metrics need."""

    near_city_radius_km: PositiveFloat = Field(description="A site is near a city within this distance.")
    near_city_population_min: PositiveInt = Field(description="People from which on a settlement is a city.")
    correlation_cell_deg: float = Field(gt=0.0, le=90.0, description="Edge of a correlation cell in degrees.")
    isolated_distance_km: PositiveFloat = Field(description="Farther than this from the next: isolated.")
    duplicate_distance_m: PositiveFloat = Field(description="Resolution at which points are the same.")
    largest_merchant_sites_min: PositiveInt = Field(description="Countries with fewer sites are not judged.")
    nn_p50_scaling_sites: PositiveInt = Field(
        description="Above so many sites the lower bound of nn_p50_km shrinks with sqrt(this / sites)."
    )


class CollapseSentinel(PolicyModel):
    """When a country's sites have collapsed into a strip or a lattice."""

    countries: PositiveInt = Field(description="So many of the largest countries are judged.")
    sites_min: int = Field(ge=2, description="Countries with fewer sites are not judged.")
    anisotropy_max: float = Field(ge=1.0, description="sqrt(largest / smallest eigenvalue).")
    linearity_max: float = Field(ge=0.5, le=1.0, description="Largest eigenvalue / sum of both.")
    distinct_share_min: Share = Field(description="Smallest share of distinct latitudes or longitudes.")
    coordinate_decimals: int = Field(ge=0, le=9, description="Decimals at which they count as distinct.")
    sample_sites_max: PositiveInt = Field(description="Larger countries are sampled down to this.")
    sample_seed: Seed = Field(description="Fixed seed of that sample.")


class StructuralPolicy(PolicyModel):
    """Structural integrity: how many violations pass (none)."""

    parity_mismatches_max: int = Field(ge=0, description="Rows missing or extra in S5 to S8.")
    duplicate_keys_max: int = Field(ge=0, description="Repeated site keys.")
    points_outside_tile_max: int = Field(ge=0, description="Points outside their tile.")
    points_outside_country_max: int = Field(ge=0, description="Points outside their country.")
    invalid_coordinates_max: int = Field(ge=0, description="Coordinates that are no place on Earth.")


class GatesPolicy(PolicyModel):
    """Everything a verdict depends on besides the data (`gates.yaml`)."""

    baseline: Baseline = Field(description="The published baseline run.")
    hard_gates: dict[CoreMetric, HardGate] = Field(description="The seven hard gates, one per core metric.")
    cv: CoefficientOfVariation = Field(description="Cross-seed stability of every core metric.")
    region_floors: dict[MacroRegion, Share] = Field(description="Smallest share of each macro-region.")
    bootstrap: BootstrapPolicy = Field(description="Bootstrap intervals.")
    counter_metrics: dict[CounterMetric, Band] = Field(description="Gates against gaming; both grades.")
    counter_metric_parameters: CounterMetricParameters = Field(description="Their definitions.")
    collapse_sentinel: CollapseSentinel = Field(description="Strips and lattices in the largest countries.")
    structural: StructuralPolicy = Field(description="Tolerated structural violations.")
    no_regression_tolerance: float = Field(ge=0.0, le=1e-3, description="Slack against the pinned lock.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require_all(self.hard_gates, CORE_METRICS)
        _require_all(self.counter_metrics, COUNTER_METRICS)
        check_region_floors(self.region_floors)
        return self


class CertificationPolicy(PolicyModel):
    """What a certification runs (`certification.yaml`)."""

    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)] = Field(
        description="Seeds of the certified runs."
    )
    reproducibility_witness_seed: Seed = Field(description="The seed that is run a second time.")

    @model_validator(mode="after")
    def _witness_is_certified(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            fail("E_POLICY_VALUE", "a seed is listed more than once")
        if self.reproducibility_witness_seed not in self.seeds:
            seeds = ", ".join(map(str, self.seeds))
            fail("E_POLICY_VALUE", f"reproducibility_witness_seed must be one of the seeds ({seeds})")
        return self
