"""`seg1b world info|build`: what the Earth is made of, and making one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import Json, WorldDirectory
from seg1b.cli.runtime import Session, running, writing

if TYPE_CHECKING:
    from seg1b.world.content import World

INFO_HELP = """Sources and attribution, counts, excluded countries with reasons, and digests of a world.

Examples:

    seg1b world info

    seg1b world info --world ./my-world --json

Exit codes: 0 shown · 2 there is no such world, or it is not whole.
"""

BUILD_HELP = """Build a world from your own polygons, your own population raster, or both.

Polygons: GeoParquet or GeoPackage in EPSG:4326 with ISO 3166-1 alpha-2 codes. Population: GeoTIFF in EPSG:4326 on
the 30 arc-second grid, with nodata. What you do not bring comes from the embedded world. On any error nothing is left.

Examples:

    seg1b world build --population ppp_2020_1km.tif --out my-world

    seg1b world build --polygons borders.gpkg --layer adm0 --country-column iso_a2 --out my-world

Exit codes: 0 built · 2 polygons or raster cannot be used, or the folder cannot be written; then nothing is left.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The Earth: the embedded one, or your own.", no_args_is_help=True)
    group.command("info", help=INFO_HELP)(info)
    group.command("build", help=BUILD_HELP)(build)
    app.add_typer(group, name="world")


def info(world: WorldDirectory = None, as_json: Json = False) -> None:
    """See INFO_HELP."""
    with running("world info", as_json=as_json) as session:
        from seg1b.world.bundle import load_world

        _show(session, load_world(world), "embedded" if world is None else str(world))


def build(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    polygons: Annotated[Path | None, typer.Option(metavar="FILE", help="GeoParquet or GeoPackage.")] = None,
    population: Annotated[
        Path | None, typer.Option(metavar="TIF", help="GeoTIFF of persons per pixel.")
    ] = None,
    country_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of country codes.")
    ] = "country_iso",
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Layer of a GeoPackage.")] = None,
    as_json: Json = False,
) -> None:
    """See BUILD_HELP."""
    with running("world build", as_json=as_json) as session:
        from seg1b.world.custom import build_user_world

        with writing(out):
            world = build_user_world(polygons, population, out, country_column=country_column, layer=layer)
        _show(session, world, str(out))


def facts(world: World, where: str) -> dict[str, Any]:
    """A world as plain JSON values."""
    countries = world.countries
    excluded = [
        {"iso": iso, "name": name, "reason": reason}
        for iso, name, reason, ok in zip(
            countries.iso,
            countries.name,
            countries.exclusion_reason,
            countries.eligible.tolist(),
            strict=True,
        )
        if not ok
    ]
    from seg1b.world.content import attributions

    provenance = world.provenance
    return {
        "world": where,
        "digest": world.digest,
        "title": provenance.get("title", ""),
        "attribution": attributions(provenance),
        "sources": provenance.get("sources", {}),
        "counts": {
            "countries": len(countries),
            "eligible_countries": int(countries.eligible.sum()),
            "settlements": len(world.settlements),
            "polygon_vertices": len(world.polygons.lon),
            "people": int(countries.population.sum()),
        },
        "excluded": excluded,
        "files": provenance.get("files", {}),
        "raster": None if world.raster is None else world.raster.header(),
    }


def _show(session: Session, world: World, where: str) -> None:
    found = facts(world, where)
    if session.json:
        session.emit(found)
        return
    session.line(f"{found['title'] or 'world'} ({where})", style="bold")
    session.line(f"digest       {found['digest']}")
    for name, value in found["counts"].items():
        session.line(f"{name.replace('_', ' '):<20} {value:>14,}")
    session.line("attribution", style="bold")
    for sentence in found["attribution"]:
        session.line(f"  {sentence}")
    session.line("sources", style="bold")
    for name, source in found["sources"].items():
        if isinstance(source, dict):
            words = [
                str(source[key]) for key in ("title", "file", "licence", "license", "url") if key in source
            ]
            session.line(f"  {name}: {'; '.join(words) or source.get('sha256', source.get('digest', ''))}")
    session.line(f"not eligible ({len(found['excluded'])}): no outlet can be in", style="bold")
    for row in found["excluded"]:
        session.line(f"  {row['iso']} {row['name']}: {row['reason']}")
    session.line("files, SHA-256", style="bold")
    for name, entry in found["files"].items():
        session.line(f"  {name:<22} {entry['sha256']}")
