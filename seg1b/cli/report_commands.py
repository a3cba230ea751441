"""`seg1b report` and `seg1b map`: look at what a certification published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from seg1b.cli.options import Json, Runs
from seg1b.cli.runtime import running, writing
from seg1b.errors import InputError

REPORT_HELP = """Where a certification's HTML report is; with `--out`, a copy of it elsewhere.

The report is one static page without scripts from elsewhere: it can be mailed.

Examples:

    seg1b report 3f2a91

    seg1b report runs/certifications/3f2a91... --out report.html

Exit codes: 0 found, or copied · 2 no such certification, no report in it, or the copy cannot be written.
"""

MAP_HELP = """Draw one seed's sites of a country, with its towns, as a PNG file.

ISO is a country code, or WORLD.

Examples:

    seg1b map 3f2a91 FR --out france.png

    seg1b map 3f2a91 WORLD --seed 7 --out world.png

Exit codes: 0 drawn · 2 no such certification, country or seed, or the file cannot be written.
"""

Cert = Annotated[
    str, typer.Argument(metavar="CERT", help="Folder, id or prefix of an id.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("report", help=REPORT_HELP)(report)
    app.command("map", help=MAP_HELP)(draw_map)


def report(
    cert: Cert,
    runs: Runs = Path("runs"),
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Copy the page here.")] = None,
    as_json: Json = False,
) -> None:
    """See REPORT_HELP."""
    with running("report", as_json=as_json) as session:
        from seg1b import api

        folder = api.certification_folder(cert, runs)
        page = folder / "report" / "index.html"
        if not page.is_file():
            raise InputError(
                "E_REPORT_MISSING", "this certification has no report", where=str(page),
                next_step="copy the certification's folder again, whole",
            )  # fmt: skip
        if out is not None:
            target = out / "index.html" if out.is_dir() else out
            _require_folder(target)
            with writing(target):
                shutil.copyfile(page, target)
            page = target
        if as_json:
            session.emit({"report": str(page), "certification": str(folder)})
        else:
            session.line(str(page))


def draw_map(
    cert: Cert,
    iso: Annotated[str, typer.Argument(metavar="ISO", help="Country code, or WORLD.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="The file to write.")],
    runs: Runs = Path("runs"),
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Default: the certificate's first seed.")
    ] = None,
    world: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The world, if the certification used your own.")
    ] = None,
    width: Annotated[int, typer.Option(min=200, max=8000, metavar="PX", help="Width in pixels.")] = 1200,
    as_json: Json = False,
) -> None:
    """See MAP_HELP."""
    with running("map", as_json=as_json) as session:
        import numpy as np

        from seg1b import api
        from seg1b.report.maps import country_map_png, world_map_png
        from seg1b.report.points import SitePoints
        from seg1b.world.bundle import load_world

        folder = api.certification_folder(cert, runs)
        document = api.load_certificate(folder)
        chosen = int(document["seeds"][0]["seed"]) if seed is None else seed
        earth, code = load_world(world), iso.upper()
        if code != "WORLD" and code not in earth.countries.index_of:
            raise InputError(
                "E_COUNTRY_UNKNOWN", f"the world has no country {iso!r}", where="ISO",
                next_step="use an ISO 3166-1 alpha-2 code, or WORLD",
            )  # fmt: skip
        _require_folder(out)
        table = api.load_site_locations(folder, chosen, countries=None if code == "WORLD" else [code])
        columns = {name: table.column(name).to_numpy() for name in ("lon_deg", "lat_deg")}
        index = earth.countries.index_of
        codes = table.column("legal_country_iso").to_pylist()
        country = np.array([index[name] for name in codes], np.int16)
        points = SitePoints(country, columns["lon_deg"], columns["lat_deg"])
        whole = code == "WORLD"
        image = world_map_png(points, earth, width) if whole else country_map_png(code, points, earth, width)
        with writing(out):
            out.write_bytes(image)
        if as_json:
            session.emit({"map": str(out), "country": code, "seed": chosen, "sites": len(points)})
        else:
            session.line(f"{out}: {len(points):,} sites, seed {chosen}")


def _require_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(
            "E_OUTPUT_FOLDER", "the folder of the output file does not exist", where=str(path.parent),
            next_step="make it first, or name another file",
        )  # fmt: skip
