"""Models of the generation policies, one per file of `config/policy/`. Gates are in `seg1b.policy.gates`.

Units stand last in the names. No field has a default: the numbers live in the files.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from seg1b.policy.base import (
    CountryIso,
    Hex64,
    MacroRegion,
    Namespace,
    PolicyModel,
    PositiveFloat,
    PositiveInt,
    Share,
    check_ascending,
    check_fields_ascending,
    check_region_floors,
    check_sum_is_one,
    fail,
)
from seg1b.policy.gates import CertificationPolicy as CertificationPolicy
from seg1b.policy.gates import GatesPolicy as GatesPolicy

_ThreeCounts = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], Field(strict=False)]


class TileIndexPolicy(PolicyModel):
    """S1: the grid and the rule that gives a tile to a country (`s1.tile_index.yaml`)."""

    resolution_arcsec: int = Field(ge=1, le=3600, description="Edge of a tile in arc-seconds; divides 3600.")
    predicate: Literal["center"] = Field(description="A tile belongs to the country that holds its centre.")

    @field_validator("resolution_arcsec")
    @classmethod
    def _divides_a_degree(cls, value: int) -> int:
        if 3600 % value:
            fail("E_POLICY_VALUE", f"{value} does not divide 3600, so tiles would not fill a degree")
        return value


class TileMix(PolicyModel):
    """Shares of the three components of a tile's mass; they sum to 1."""

    uniform: Share = Field(description="Share of the component that is equal in every tile.")
    area: Share = Field(description="Share of the component in proportion to the tile's area.")
    population: Share = Field(description="Share of the component in proportion to the tile's people.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        check_sum_is_one(self.model_dump(), "the mix")
        return self


class SurfacePolicy(PolicyModel):
    """How settlements become a population surface."""

    urban_peak_density_per_km2: PositiveFloat = Field(description="People per km2 in a settlement's middle.")
    min_radius_km: PositiveFloat = Field(description="Smallest radius of a settlement's disc.")
    rural_share_min: Share = Field(
        lt=1.0, description="Smallest share of a country's people who live outside discs."
    )
    rural_share_max: Share = Field(description="Largest such share; beyond it settlements are scaled up.")
    rural_block_tiles: PositiveInt = Field(description="Edge of the blocks that hold rural people, in tiles.")
    rural_halo_blocks: int = Field(ge=0, description="Blocks around a settled block that are rural as well.")

    @model_validator(mode="after")
    def _rural_range(self) -> Self:
        check_fields_ascending(self, "rural_share_min", "rural_share_max")
        return self


class TileWeightsPolicy(PolicyModel):
    """S2: integer tile weights of a country (`s2.tile_weights.yaml`)."""

    dp: int = Field(ge=6, le=15, description="Decimal places: a country's weights sum to 10^dp.")
    mix: TileMix = Field(description="Shares of uniform, area and population in a tile's mass.")
    surface: SurfacePolicy = Field(description="How settlements become a population surface.")
    hilbert_block_tiles: PositiveInt = Field(description="Edge of the blocks on the Hilbert curve, in tiles.")


class PriorPolicy(PolicyModel):
    """Market prior: (population x GDP per head ^ gdp_exponent) ^ tempering."""

    gdp_exponent: float = Field(ge=0.0, le=2.0, description="Exponent of GDP per head.")
    tempering: float = Field(gt=0.0, le=1.0, description="Exponent of the whole product; 1 is untempered.")


class ShareLimits(PolicyModel):
    """What the projected country shares must meet."""

    gini_max: Share = Field(description="Largest Gini of the country shares.")
    top1_max: Share = Field(description="Largest share of the top 1 % of countries.")
    top5_max: Share = Field(description="Largest share of the top 5 % of countries.")
    top10_max: Share = Field(description="Largest share of the top 10 % of countries.")
    southern_min: Share = Field(description="Smallest share south of the equator.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_fields_ascending(self, "top1_max", "top5_max", "top10_max")
        return self


class CapacityPolicy(PolicyModel):
    """Largest plausible number of outlets of a country: min(people / a, b x ceil(area / c))."""

    people_per_site: PositiveInt = Field(description="People needed for one outlet.")
    sites_per_tile: PositiveInt = Field(description="Outlets that fit into one tile.")
    tile_area_km2: PositiveFloat = Field(description="Area of the tile in that rule.")


class CountrySharesPolicy(PolicyModel):
    """S2: the share of every country in all outlets (`s2.country_shares.yaml`)."""

    prior: PriorPolicy = Field(description="The market prior.")
    limits: ShareLimits = Field(description="Limits of the projection.")
    region_floor: dict[MacroRegion, Share] = Field(description="Smallest share of each macro-region.")
    region_floor_margin: float = Field(ge=1.0, le=10.0, description="The projection uses floor x margin.")
    capacity: CapacityPolicy = Field(description="Largest plausible number of outlets of a country.")
    min_site_population: PositiveInt = Field(description="From so many people on, at least one outlet.")
    reference_sites: PositiveInt = Field(description="Total outlets at which capacities become shares.")

    @model_validator(mode="after")
    def _floors_fit(self) -> Self:
        check_region_floors(self.region_floor, self.region_floor_margin)
        return self


class ParetoSizes(PolicyModel):
    """Truncated Pareto sizes of the large merchants."""

    lower: PositiveInt = Field(description="Smallest number of outlets.")
    upper: PositiveInt = Field(description="Largest number of outlets.")
    alpha: PositiveFloat = Field(description="Tail exponent.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_fields_ascending(self, "lower", "upper")
        return self


class MerchantSizes(PolicyModel):
    """Outlets per merchant; the shares are stratified quotas."""

    single_share: Share = Field(description="Share of merchants with one outlet.")
    negative_binomial_mean: PositiveFloat = Field(description="Mean outlets of the middle group.")
    dispersion: PositiveFloat = Field(description="Dispersion phi of the middle group.")
    dispersion_sigma: float = Field(ge=0.0, le=5.0, description="Lognormal spread of phi between merchants.")
    minimum: int = Field(ge=2, description="Smallest size of a merchant of the middle group.")
    large_share: Share = Field(description="Share of merchants with Pareto sizes.")
    pareto: ParetoSizes = Field(description="Sizes of the large merchants.")

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.single_share + self.large_share > 1.0:
            message = f"single_share {self.single_share!r} + large_share {self.large_share!r} exceed 1"
            fail("E_POLICY_MIX_SUM", message)
        return self


class CrossBorderPolicy(PolicyModel):
    """How merchants spread over countries."""

    candidates_base: int = Field(ge=1, description="Candidate countries of the least open merchant.")
    candidates_span: int = Field(ge=0, description="Further candidates of the most open merchant.")
    membership_share: Share = Field(description="Share of multi-outlet merchants that have members abroad.")
    membership_rate: Share = Field(description="Member countries per candidate country.")
    openness_size_slope: float = Field(ge=-10.0, le=10.0, description="Effect of log size on openness.")
    foreign_share_max: Share = Field(description="Foreign share of the most open merchant.")
    foreign_openness_start: float = Field(ge=0.0, lt=1.0, description="Openness at which it starts.")
    foreign_openness_width: float = Field(gt=0.0, le=1.0, description="Openness from there to the maximum.")
    dirichlet_alpha: PositiveFloat = Field(description="Evenness of foreign outlets over the members.")

    @model_validator(mode="after")
    def _never_above_the_maximum(self) -> Self:
        if self.foreign_openness_start + self.foreign_openness_width < 1.0 - 1e-9:
            start, width = self.foreign_openness_start, self.foreign_openness_width
            message = f"foreign_openness_start {start!r} + foreign_openness_width {width!r} must reach 1"
            fail("E_POLICY_VALUE", message + "; otherwise the foreign share exceeds foreign_share_max")
        return self


class CountryQuotas(PolicyModel):
    """How country shares become quotas of a catalogue."""

    shock_sigma: float = Field(ge=0.0, le=1.0, description="Lognormal seed shock; 0 makes the country CV 0.")
    largest_merchant_share: float = Field(
        gt=0.0, le=1.0, description="Largest share of a quota for one merchant."
    )
    same_region_weight: PositiveFloat = Field(description="Preference for the home region abroad.")
    small_quota_limit: int = Field(
        ge=0,
        description="In a country of at most this quota one outlet a merchant, unless nothing else fits.",
    )


class SynthesisPolicy(PolicyModel):
    """The synthesised outlet catalogue (`catalogue.synthesis.yaml`)."""

    merchants: PositiveInt = Field(description="Number of merchants.")
    sizes: MerchantSizes = Field(description="Outlets per merchant.")
    cross_border: CrossBorderPolicy = Field(description="How merchants spread over countries.")
    countries: CountryQuotas = Field(description="How country shares become quotas.")


class RequirementsPolicy(PolicyModel):
    """S3: which outlets must be placed (`s3.requirements.yaml`)."""

    enabled: bool = Field(description="Whether the denylist acts.")
    denylist_country_iso: Annotated[tuple[CountryIso, ...], Field(strict=False)] = Field(
        description="Countries without outlets, ISO 3166-1 alpha-2; they stay in every denominator."
    )

    @field_validator("denylist_country_iso")
    @classmethod
    def _sorted_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """A denylist is a set: its order means nothing, so it must not change a digest."""
        repeated = sorted({iso for iso in value if value.count(iso) > 1})
        if repeated:
            fail("E_POLICY_VALUE", f"listed more than once: {', '.join(repeated)}")
        return tuple(sorted(value))


class TwoStagePolicy(PolicyModel):
    """Two-stage systematic PPS sampling: trade areas, then outlets."""

    sites_per_area: PositiveInt = Field(description="Outlets per trade area (m).")
    dispersed_ppm: int = Field(ge=0, le=1_000_000, description="Outlets outside trade areas, per million.")


class GuardPolicy(PolicyModel):
    """Largest share of a merchant's outlets of one country in one tile or trade area."""

    soft: float = Field(gt=0.0, le=1.0, description="Above it outlets move to the next area.")
    hard: float = Field(gt=0.0, le=1.0, description="No move may lift a receiver above it.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_fields_ascending(self, "soft", "hard")
        return self


class SupportDiversification(PolicyModel):
    """v1: small merchants start at different places of the residue rank."""

    enabled: bool = Field(description="Whether it acts.")
    apply_n_sites_max: int = Field(ge=0, description="Largest number of outlets of a pair it acts on.")
    candidate_window_fraction: Share = Field(description="Window as a fraction of the country's tiles.")
    candidate_window_min: PositiveInt = Field(description="Smallest window in tiles.")
    candidate_window_max: PositiveInt | None = Field(description="Largest window in tiles; null is no limit.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.candidate_window_max is not None:
            check_fields_ascending(self, "candidate_window_min", "candidate_window_max")
        return self


class Reroute(PolicyModel):
    """v1: the soft guard's moves."""

    enabled: bool = Field(description="Whether it acts.")
    max_moves_per_pair: int = Field(ge=0, description="Largest number of moves of a pair.")


class ResidualRedistribution(PolicyModel):
    """v1: spread a pair over more tiles."""

    enabled: bool = Field(description="Whether it acts.")
    min_active_tile_fraction: Share = Field(description="Smallest active share of the reachable tiles.")
    max_steps_per_pair: int = Field(ge=0, description="Largest number of moves of a pair.")


class LargestRemainderPolicy(PolicyModel):
    """v1: largest remainder with anti-collapse controls."""

    support_diversification: SupportDiversification = Field(description="Different starts.")
    reroute: Reroute = Field(description="Moves of the soft guard.")
    residual_redistribution: ResidualRedistribution = Field(description="Spread over more tiles.")
    deterministic_seed_namespace: Namespace = Field(description="Namespace of the ring's start.")


class AllocationPolicy(PolicyModel):
    """S4: how outlets are spread over tiles (`s4.alloc_plan.yaml`)."""

    mode: Literal["two_stage_pps", "systematic_pps", "largest_remainder_v1"] = Field(
        description="The method; the other methods' blocks are kept but have no effect."
    )
    two_stage: TwoStagePolicy = Field(description="Knobs of two_stage_pps.")
    guard: GuardPolicy = Field(description="Largest share of a pair in one tile or area.")
    largest_remainder_v1: LargestRemainderPolicy = Field(description="Knobs of largest_remainder_v1.")


class AssignmentPolicy(PolicyModel):
    """S5: which outlet takes which tile (`s5.assignment.yaml`)."""

    rng: Literal["v2", "v1"] = Field(
        description="Family of random streams; v1 reproduces the earlier engine."
    )
    v1_manifest_fingerprint: Hex64 | None = Field(
        description="Fingerprint for the v1 streams; null takes this run's own."
    )


class ComponentWeights(PolicyModel):
    """Probabilities of the three components of a position; they sum to 1."""

    core: Share = Field(description="At the main anchor (mixture_v2: near the tile's corners).")
    secondary: Share = Field(description="At one of the other anchors.")
    sparse_tail: Share = Field(description="Anywhere in the tile.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        check_sum_is_one(self.model_dump(), "the component weights")
        return self


class ClusterPolicy(PolicyModel):
    """cluster_v3: Gaussian clusters round anchors that all merchants share."""

    component_weights: ComponentWeights = Field(description="Probabilities of the components.")
    anchor_population_thresholds: _ThreeCounts = Field(
        description="People in the tile from which on it has 2, 3 and 4 anchors; ascending."
    )
    anchor_margin: float = Field(ge=0.0, lt=0.5, description="Distance of anchors from the edge, in tiles.")
    core_sd_tile: float = Field(ge=0.05, le=1.0, description="Standard deviation of the core, in tiles.")
    secondary_sd_tile: float = Field(ge=0.05, le=1.0, description="The same of the secondary clusters.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        names = ("first threshold", "second threshold", "third threshold")
        values = zip(names, self.anchor_population_thresholds, strict=True)
        check_ascending(values, "E_POLICY_THRESHOLD_ORDER", strict=True)
        return self


class MixtureComponent(PolicyModel):
    """mixture_v2: fraction 0.5 + 0.5 sign(c) |c|^exponent max_offset with c = 2u - 1."""

    exponent_lon: float = Field(ge=0.2, le=8.0, description="Exponent along longitude.")
    exponent_lat: float = Field(ge=0.2, le=8.0, description="Exponent along latitude.")
    max_offset: float = Field(ge=0.0, le=1.0, description="Largest offset from the centre, in half tiles.")


class MixturePolicy(PolicyModel):
    """mixture_v2: the earlier engine's jitter, kept for parity."""

    namespace: Namespace = Field(description="Namespace in the stream's label.")
    selection_blend: Share = Field(description="Weight of the latitude draw in the selector.")
    component_weights: ComponentWeights = Field(description="Cut points of the selector.")
    core: MixtureComponent = Field(description="Shape of the core component.")
    secondary: MixtureComponent = Field(description="Shape of the secondary component.")
    sparse_tail: MixtureComponent = Field(description="Shape of the sparse tail.")


class UniformPolicy(PolicyModel):
    """uniform_v1: uniform in the tile, kept for parity."""

    namespace: Namespace = Field(description="Namespace in the stream's label.")


class JitterPolicy(PolicyModel):
    """S6: the point inside the tile (`s6.jitter.yaml`)."""

    mode: Literal["cluster_v3", "mixture_v2", "uniform_v1"] = Field(
        description="The method; the other methods' blocks are kept but have no effect."
    )
    max_attempts: int = Field(ge=1, le=256, description="Attempts before the fallback (v1: the error).")
    cluster_v3: ClusterPolicy = Field(description="Knobs of cluster_v3.")
    mixture_v2: MixturePolicy = Field(description="Knobs of mixture_v2.")
    uniform_v1: UniformPolicy = Field(description="Knobs of uniform_v1.")
    v1_manifest_fingerprint: Hex64 | None = Field(
        description="Fingerprint for the v1 streams; null takes this run's own."
    )
