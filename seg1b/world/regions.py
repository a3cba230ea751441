"""Macro-regions: which part of the world a country counts for.

The source of truth is the UN M49 subregion of a country (Natural Earth carries it as `SUBREGION`). A
macro-region follows from the subregion alone. Mexico, Central America and the Caribbean are North America:
their M49 grouping "Latin America and the Caribbean" would otherwise leave North America with five members,
one of which decides all.
"""

from __future__ import annotations

from typing import Final

from seg1b.errors import InputError

MACRO_REGIONS: Final = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania", "Antarctica")

SUBREGION_TO_MACRO_REGION: Final[dict[str, str]] = {
    "Eastern Africa": "Africa",
    "Middle Africa": "Africa",
    "Northern Africa": "Africa",
    "Southern Africa": "Africa",
    "Western Africa": "Africa",
    "Central Asia": "Asia",
    "Eastern Asia": "Asia",
    "South-Eastern Asia": "Asia",
    "Southern Asia": "Asia",
    "Western Asia": "Asia",
    "Eastern Europe": "Europe",
    "Northern Europe": "Europe",
    "Southern Europe": "Europe",
    "Western Europe": "Europe",
    "Caribbean": "North America",
    "Central America": "North America",
    "Northern America": "North America",
    "South America": "South America",
    "Australia and New Zealand": "Oceania",
    "Melanesia": "Oceania",
    "Micronesia": "Oceania",
    "Polynesia": "Oceania",
    "Antarctica": "Antarctica",
}

M49_SUBREGION_BY_ISO: Final[dict[str, str]] = {
    # Natural Earth says "Seven seas (open ocean)".
    "GS": "South America",
    "HM": "Australia and New Zealand",
    "IO": "Eastern Africa",
    "TF": "Eastern Africa",
    "UM": "Micronesia",
    # Part of a parent's feature in Natural Earth, with the parent's subregion.
    "BQ": "Caribbean",
    "BV": "South America",
    "CC": "Australia and New Zealand",
    "CX": "Australia and New Zealand",
    "GF": "South America",
    "GP": "Caribbean",
    "MQ": "Caribbean",
    "RE": "Eastern Africa",
    "SJ": "Northern Europe",
    "TK": "Polynesia",
    "YT": "Eastern Africa",
}
"""UN M49 subregions of the countries for which the source has none or its parent's."""


def macro_region(subregion: str) -> str:
    """Return the macro-region of a UN M49 `subregion`; raises `InputError` W108 for an unknown one."""
    try:
        return SUBREGION_TO_MACRO_REGION[subregion]
    except KeyError:
        raise InputError(
            "W108",
            f"unknown subregion {subregion!r}",
            where="subregion",
            next_step=f"use a UN M49 subregion: {', '.join(sorted(SUBREGION_TO_MACRO_REGION))}",
        ) from None
