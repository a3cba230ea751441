"""`seg1b verify`: check a certification with the package alone, believing nothing that it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seg1b.cli.options import Json, Runs
from seg1b.cli.runtime import LIES, Session, describe_sources, running

HELP = """Recompute everything that a certification claims, from its published files alone.

CERT is a certification's folder (a copy elsewhere will do), or its id or a prefix of it in the run store. Neither
thresholds nor digests nor metrics in it are trusted: gates come from this package, or from `--config`. A `./config`
is not used here, so that a folder that came with a certificate cannot lower its gates.

Examples:

    seg1b verify runs/certifications/3f2a91...

    seg1b verify 3f2a91 --runs /data/runs

    seg1b verify ./copy --raster ppp_2020_1km.tif --json

Without a user world's raster a certificate is only partially verifiable: no grade is verified then.

Exit codes: 0 everything agrees (or all of it that can be checked) · 4 something does not · 2 no certificate there.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", help=HELP)(verify)


def verify(
    cert: Annotated[
        str, typer.Argument(metavar="CERT", help="Folder, id or prefix of an id.", show_default=False)
    ],
    runs: Runs = Path("runs"),
    config: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Whose gates to trust. Default: the packaged ones.")
    ] = None,
    raster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The population raster of a user's world.")
    ] = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("verify", as_json=as_json) as session:
        from seg1b import api
        from seg1b.lanes.verify import verify as run_lane
        from seg1b.policy.load import load_policies

        path = api.certification_folder(cert, runs)
        policies = None if config is None else load_policies(config)
        session.note("gates", "the packaged ones" if policies is None else describe_sources(policies))
        report = run_lane(path, policies, raster=raster, observer=lambda what: session.note("checking", what))
        if as_json:
            session.emit(facts(report))
        else:
            show(session, report)
        if not report.ok:
            raise typer.Exit(LIES)


def facts(report: Any) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {
        "ok": report.ok,
        "partially": report.partially,
        "path": str(report.path),
        "cert_id": report.cert_id,
        "claimed_grade": report.grade,
        "verified_grade": report.verified_grade,
        "packaged": dict(report.packaged),
        "findings": [{"code": f.code, "what": f.what, "where": f.where} for f in report.findings],
        "checked": list(report.checked),
        "unchecked": list(report.unchecked),
    }


def show(session: Session, report: Any) -> None:
    """The readable verdict."""
    from seg1b.report.wording import earned_with

    for item in report.checked:
        session.line(f"  agrees   {item}")
    for item in report.unchecked:
        session.line(f"  skipped  {item}", style="yellow")
    for finding in report.findings:
        session.line(f"  DIFFERS  {finding.code}: {finding.what}", style="red")
        session.line(f"           {finding.where}")
    if not report.ok:
        session.line(
            f"VERIFICATION FAILED: {len(report.findings)} finding(s); do not use this certificate", "bold red"
        )
    elif report.partially:
        session.line(
            "PARTIALLY VERIFIABLE: what can be checked without the world's raster agrees; no grade is verified",
            "bold yellow",
        )
        session.line(
            f"  the certificate claims {report.grade}; bring the raster (--raster) to verify it", "yellow"
        )
    else:
        session.line(
            f"verified: grade {report.verified_grade}, certificate {report.cert_id[:12]}", style="bold green"
        )
    if report.ok:
        terms, packaged = earned_with(report.packaged)
        session.line(f"  {terms}", "" if packaged else "yellow")
