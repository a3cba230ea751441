"""What metrics are called and how numbers are written, on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MISSING: Final = "–"


@dataclass(frozen=True)
class Name:
    """A metric for readers: its title, what it says, and how its values are written."""

    title: str
    meaning: str
    style: str = "number"


NAMES: Final[dict[str, Name]] = {
    "country_gini": Name(
        "Inequality of countries", "Gini coefficient of sites per country; 0 is equal, 1 is one country."
    ),
    "top10_share": Name("Largest 10 % of countries", "Their share of all sites.", "share"),
    "top5_share": Name("Largest 5 % of countries", "Their share of all sites.", "share"),
    "top1_share": Name("Largest 1 % of countries", "Their share of all sites.", "share"),
    "eligible_country_nonzero_share": Name(
        "Countries with a site", "Of all inhabited countries, those with at least one site.", "share"
    ),
    "southern_hemisphere_share": Name("Southern hemisphere", "Sites south of the equator.", "share"),
    "nn_p99_p50_ratio": Name(
        "Isolation tail", "99th percentile over median of the distance to the nearest other site."
    ),
    "population_pit_mean": Name(
        "Density rank of sites, mean",
        "Share of a country's people living less densely than around the site; sites that follow people "
        "average one half.",
    ),
    "population_pit_ks": Name(
        "Density rank of sites, distance from uniform",
        "Kolmogorov–Smirnov distance; 0 follows people exactly.",
    ),
    "unpopulated_tile_share": Name("Sites where nobody lives", "In tiles without people.", "share"),
    "near_city_share_difference": Name(
        "Sites near a city, against people near one",
        "Within 10 km of a settlement of 50,000; difference in shares.",
        "points",
    ),
    "population_correlation_1deg": Name(
        "Correlation with population", "Over cells of one degree, country means removed."
    ),
    "nn_p50_km": Name("Nearest neighbour, median", "Distance to the nearest other site.", "km"),
    "nn_p90_km": Name("Nearest neighbour, 90th percentile", "Distance to the nearest other site.", "km"),
    "nn_isolated_10km_share": Name("Sites alone within 10 km", "No other site nearer than that.", "share"),
    "duplicate_point_share": Name("Duplicate points", "The same point to the metre.", "share"),
    "market_slope": Name("Sites follow market size", "Slope of log sites on log market size over countries."),
    "country_gini_lower_bound": Name(
        "Inequality of countries, at least", "A world of equal countries would be as wrong as one of giants."
    ),
    "prior_kl": Name(
        "Distance from the market prior", "KL divergence of country shares, certified from prior."
    ),
    "largest_merchant_share": Name(
        "Largest merchant in any country", "Its share of the sites of a country with 20 or more.", "share"
    ),
    "collapse_sentinel": Name(
        "Collapsed countries", "Of the ten largest, those whose sites form a strip or a lattice.", "count"
    ),
    "structural.parity_mismatches": Name("Rows that differ between states", "", "count"),
    "structural.duplicate_keys": Name("Duplicate site keys", "", "count"),
    "structural.points_outside_tile": Name("Points outside their tile", "", "count"),
    "structural.points_outside_country": Name("Points outside their country", "", "count"),
    "structural.invalid_coordinates": Name("Invalid coordinates", "", "count"),
    # 1A guard
    "single_site_share": Name("Merchants with a single outlet", "", "share"),
    "median_outlets_per_merchant": Name("Outlets per merchant, median", "", "count"),
    "top10_outlet_share": Name("Outlets of the largest 10 % of merchants", "", "share"),
    "gini_outlets_per_merchant": Name("Gini of outlets per merchant", ""),
    "home_legal_mismatch_rate": Name("Outlets abroad", "", "share"),
    "size_gradient_pp_top_minus_bottom": Name("Outlets abroad, large minus small merchants", "", "pp"),
    "multi_country_legal_spread": Name("Merchants in more than one country", "", "share"),
    "candidate_count_median": Name("Candidate countries, median", "", "count"),
    "candidate_membership_correlation": Name("Candidates against memberships, rank correlation", ""),
    "realization_ratio_median": Name("Memberships per candidate, median", ""),
    "realised_ratio_median": Name("Countries with outlets per candidate, median", ""),
    "phi_cv": Name("Dispersion, coefficient of variation", ""),
    "phi_p95_p05_ratio": Name("Dispersion, 95th over 5th percentile", ""),
    "identity_semantics_no_unexplained_duplicate_anomalies": Name("Identity without anomalies", "", "truth"),
    "required_outputs_present": Name("All required tables present", "", "truth"),
}

STATUS_TEXT: Final = {
    "GREEN_B": "passes everything",
    "AMBER_NEAR_BPLUS": "passes B, misses B+",
    "RED_REOPEN_REQUIRED": "fails B",
}

PACKAGED: Final = {
    "gates_are_the_packaged_ones": "gates",
    "parameters_are_the_packaged_ones": "parameters",
    "seeds_are_the_packaged_ones": "seeds",
    "world_is_the_packaged_one": "world",
}
"""Facts of a certificate that say what its grade was earned with."""

GROUPS: Final = (
    ("Core", ""),
    ("Upper end of the 95 % interval", "bootstrap_"),
    ("Regions", "region_floor."),
    ("Integrity", "structural."),
)


def name_of(metric: str) -> Name:
    """Title and style of a gate, counter-metric or guard metric; unknown ones keep their own name."""
    if metric in NAMES:
        return NAMES[metric]
    if metric.startswith("region_floor."):
        return Name(metric.removeprefix("region_floor."), "Share of all sites.", "share")
    for prefix in ("bootstrap_upper.", "bootstrap_lower."):
        base = metric.removeprefix(prefix)
        if base != metric and base in NAMES:
            return Name(NAMES[base].title, "", NAMES[base].style)
    return Name(metric.replace("_", " "), "")


def group_of(metric: str) -> str:
    """Title of the group that a gate belongs to."""
    if metric == "collapse_sentinel":
        return "Integrity"
    return next((title for title, prefix in GROUPS if prefix and metric.startswith(prefix)), GROUPS[0][0])


def number(value: float | None, style: str = "number") -> str:
    """A value in its style; `MISSING` for None."""
    if value is None:
        return MISSING
    if style in ("share", "points"):
        percent = 100.0 * value
        digits = 2 if abs(percent) < 10.0 else 1
        text = f"{percent:+.{digits}f}" if style == "points" else f"{percent:.{digits}f}"
        return _trimmed(text) + (" pp" if style == "points" else " %")
    if style == "pp":
        return f"{value:.1f} pp"
    if style == "km":
        return f"{value:.2f} km"
    if style == "truth":
        return "yes" if value == 1.0 else "no"
    if style == "count":
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return f"{value:.2f}" if abs(value) >= 10.0 else f"{value:.3f}"


def limit(value: float | None, style: str = "number") -> str:
    """A threshold: as `number`, without zeros at the end."""
    text = number(value, style)
    head, _, unit = text.partition(" ")
    return f"{_short(head)} {unit}".strip()


def allowed(low: float | None, high: float | None, style: str) -> str:
    """A band in words."""
    if low is None and high is None:
        return "any"
    if low is None:
        return f"≤ {limit(high, style)}"
    if high is None:
        return f"≥ {limit(low, style)}"
    if style == "points" and low == -high:
        return f"± {limit(high, style).lstrip('+')}"
    unit = limit(high, style).partition(" ")[2]
    return f"{limit(low, style).removesuffix(unit).strip()} to {limit(high, style)}"


def _trimmed(text: str) -> str:
    return "0" if float(text) == 0.0 else text


def _short(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def operator(op: str) -> str:
    """The operator as a reader writes it."""
    return {"<=": "≤", ">=": "≥"}.get(op, op)


def verdict(row: dict[str, Any]) -> str:
    """`B+`, `B` or `fail` for a gate row."""
    if not row["pass_b"]:
        return "fail"
    return "B+" if row["pass_b_plus"] else "B"


def margin(row: dict[str, Any]) -> float | None:
    """Room to the B+ threshold as a fraction of it, negative when missed; None if that is not defined."""
    room, threshold = row.get("margin_b_plus"), row.get("b_plus")
    if room is None or not threshold:
        return None
    return float(room) / abs(float(threshold))


def size_text(size_bytes: int) -> str:
    """A size in the unit that fits it: `7.6 MB`."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= 0.99995 * scale:  # what would be written as 1000.0 of the unit below
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def earned_with(facts: Mapping[str, Any]) -> tuple[str, bool]:
    """What a grade was earned with, in a sentence, and whether all of it comes with seg1b."""
    own = [what for name, what in PACKAGED.items() if facts.get(name) is not True]
    if not own:
        return "Gates, parameters, seeds and world are those packaged with seg1b.", True
    listed = f"{', '.join(own[:-1])} and {own[-1]}" if len(own) > 1 else own[0]
    return f"Earned with other {listed} than those packaged with seg1b: compare it only with its like.", False


def grade_text(grade: str) -> str:
    """The grade as a reader sees it."""
    return {"below_B": "below B", "B_plus": "B+", "not_applicable": "not applicable"}.get(grade, grade)
