"""seg1b as a library: certify, tune, verify, and read what was published.

    import seg1b

    result = seg1b.certify(runs="runs", executor="serial")
    print(result.grade, result.path)
    sites = seg1b.load_site_locations(result.path, seed=42)          # a pyarrow.Table
    frame = seg1b.load_site_locations(result.path, 42, as_="polars")  # or a polars.DataFrame

Every function raises `seg1b.errors.Seg1bError` with a code, what is wrong, where, and what to do next.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from seg1b.cpus import usable_cpus
from seg1b.errors import InputError

if TYPE_CHECKING:
    import polars
    import pyarrow

    from seg1b.lanes.certify import CertifyResult, Observer
    from seg1b.lanes.executor import Executor
    from seg1b.lanes.tune_result import TuneResult
    from seg1b.lanes.verify_report import VerifyReport
    from seg1b.policy.load import Policies
    from seg1b.world.content import World

__all__ = ["certify", "load_certificate", "load_site_locations", "tune", "verify"]

WARM_UP = ("seg1b.lanes.warm_up:placing", "seg1b.lanes.warm_up:validating")
"""What Ray's workers compile (or load from the cache) while the driver computes the world."""

PathLike = str | os.PathLike[str]
SITE_COLUMNS = ("legal_country_iso", "merchant_id", "site_order", "lon_deg", "lat_deg")
"""What `load_site_locations` reads unless asked otherwise; `geometry` (WKB) is the sixth column."""


def certify(
    *,
    runs: PathLike = "runs",
    config: PathLike | None = None,
    world: PathLike | None = None,
    catalogue: PathLike | None = None,
    seeds: Sequence[int] | None = None,
    executor: str | Executor = "serial",
    workers: int | None = None,
    address: str | None = None,
    observer: Observer | None = None,
) -> CertifyResult:
    """Run the whole chain for every seed and publish a graded certificate in the run store `runs`.

    config: folder of policies (None: `./config`, else the packaged ones); world: folder of a user's world (None: the
    embedded one); catalogue: a user's CSV or Parquet file or 1A bundle (None: each seed synthesises its own); seeds:
    None takes the certification policy's, and only with all of those can a grade be reached. executor: `serial`,
    `threads`, `ray`, `auto`, or an object of `seg1b.lanes.executor.Executor`; workers and address are Ray's. observer
    is called with a `seg1b.lanes.certify.Event` for every step.

    Returns the result with `.grade`, `.path` (the certification's folder) and `.certificate` (its document). Raises
    InputError for what was brought, StoreError for the store.

        result = seg1b.certify(runs="runs", catalogue="outlets.csv")
        if result.grade != "B+":
            print(result.certificate["reasons_against_b_plus"])
    """
    from seg1b.lanes.certify import certify as run_lane
    from seg1b.policy.load import load_policies
    from seg1b.store.store import Store
    from seg1b.world.bundle import load_world

    policies = load_policies(_path(config))
    chosen = check_seeds(seeds, policies)
    runner = _runner(executor, workers, address)
    earth = load_world(_path(world))
    extra = {} if observer is None else {"observer": observer}
    with checked_catalogue(_path(catalogue), earth) as brought, Store.open(Path(runs)) as store:
        return run_lane(store, policies, earth, seeds=chosen, bundle=brought, executor=runner, **extra)


def tune(
    overrides: Mapping[str, Any],
    *,
    seed: int,
    against: str | None = None,
    recover: bool = False,
    waive_perf: str | None = None,
    runs: PathLike = "runs",
    config: PathLike | None = None,
    world: PathLike | None = None,
    catalogue: PathLike | None = None,
    executor: str | Executor = "threads",
    workers: int | None = None,
    address: str | None = None,
    observer: Observer | None = None,
) -> TuneResult:
    """Try knobs on one seed: rerun from the first changed state on, score, and compare. Never certifies.

    overrides: value by knob, in full or short (`s6.component_weights.sparse_tail`); shares of one mix that are not
    named are rescaled. against: `last_good`, `baseline`, `candidate` or a run (None: the same seed under the unchanged
    policies, made first if it is not in the store). recover: an attempt of the recovery loop, from the integrated run.

    The candidate enters the open wave, which takes two. Raises InputError, and changes nothing: E_POLICY_* for a knob
    that does not exist or a value that it refuses, E_TUNE_KNOB for one that is no seed's, E_TUNE_NO_EFFECT for one that
    changes nothing, E_WAVE_FULL, E_PHASE_LOCKED, E_RUN_PRUNED, E_STORE_DRIVEN and the others of `lanes.tune`.

        result = seg1b.tune({"s4.two_stage.sites_per_area": 6}, seed=42)
        print(result.reran, result.vetoed)
    """
    from seg1b.lanes.knob_effect import settled
    from seg1b.lanes.tune import tune as run_lane
    from seg1b.policy.load import load_policies
    from seg1b.store.store import Store
    from seg1b.world.bundle import load_world

    policies = load_policies(_path(config))
    compares = against is not None or recover
    if not recover:  # an attempt begins with the integrated run's knobs, which the store knows
        settled(policies, overrides, catalogue=_path(catalogue), compares_with_a_run=compares)
    runner = _runner(executor, workers, address)
    earth = load_world(_path(world))
    extra = {} if observer is None else {"observer": observer}
    with (
        checked_catalogue(_path(catalogue), earth) as brought,
        Store.open(Path(runs), create=not compares) as store,
    ):
        return run_lane(
            store, policies, earth, seed=seed, overrides=overrides, against=against, recover=recover,
            waive_perf=waive_perf, bundle=brought, executor=runner, **extra,
        )  # fmt: skip


def verify(
    cert: PathLike, *, runs: PathLike = "runs", config: PathLike | None = None, raster: PathLike | None = None
) -> VerifyReport:
    """Recompute everything that a certification claims, from its published files alone.

    cert: a certification's folder (a copy elsewhere will do), or its id or a prefix of it in the store `runs`.
    config: whose gates to trust; None takes the packaged ones, never the certificate's and never `./config`. raster:
    the user's population raster, if the world has one. Returns a report with `.ok` and `.findings`; raises InputError
    where there is no certificate.

        assert seg1b.verify("runs/certifications/3f2a...").ok
    """
    from seg1b.lanes.verify import verify as run_lane
    from seg1b.policy.load import load_policies

    policies = None if config is None else load_policies(Path(config))
    return run_lane(certification_folder(cert, runs), policies, raster=_path(raster))


def load_certificate(cert: PathLike, *, runs: PathLike = "runs") -> dict[str, Any]:
    """The document of a certification: grade, identity, seeds with gates and metrics, CVs, pooled.

    cert: a folder, or an id or a prefix of it in the store `runs`. Nothing is checked: that is `verify`'s work. Raises
    InputError E_CERTIFICATE_MISSING, E_CERTIFICATE_UNREADABLE or E_STORE_UNKNOWN_ID.

        seg1b.load_certificate("runs/certifications/3f2a...")["grade"]
    """
    path = certification_folder(cert, runs) / "certificate.json"
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            "E_CERTIFICATE_UNREADABLE", f"the certificate cannot be read: {error}", where=str(path),
            next_step="name a certification's folder, or copy it again",
        ) from error  # fmt: skip
    if not isinstance(document, dict):
        raise InputError(
            "E_CERTIFICATE_UNREADABLE", "the certificate is not a JSON object", where=str(path),
            next_step="name a certification's folder, or copy it again",
        )  # fmt: skip
    return document


@overload
def load_site_locations(
    cert: PathLike, seed: int, *, columns: Sequence[str] | None = None, countries: Sequence[str] | None = None,
    runs: PathLike = "runs", as_: Literal["arrow"] = "arrow",
) -> pyarrow.Table: ...  # fmt: skip
@overload
def load_site_locations(
    cert: PathLike, seed: int, *, columns: Sequence[str] | None = None, countries: Sequence[str] | None = None,
    runs: PathLike = "runs", as_: Literal["polars"],
) -> polars.DataFrame: ...  # fmt: skip
def load_site_locations(
    cert: PathLike,
    seed: int,
    *,
    columns: Sequence[str] | None = None,
    countries: Sequence[str] | None = None,
    runs: PathLike = "runs",
    as_: Literal["arrow", "polars"] = "arrow",
) -> Any:
    """Site locations of one seed, ascending by country, merchant and site_order.

    cert: a certification's folder, or an id or a prefix of it in the store `runs`. columns: any of `SITE_COLUMNS` and
    `geometry` (WKB); None takes `SITE_COLUMNS`. countries: ISO codes to read (None: all); "NA" is Namibia. as_: a
    `pyarrow.Table` or a `polars.DataFrame`. Raises InputError E_CERTIFICATE_SEED, E_SITES_COLUMN, E_SITES_COUNTRY.

        table = seg1b.load_site_locations(result.path, 42, countries=["FR", "NA"], columns=["lon_deg", "lat_deg"])
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(SITE_COLUMNS if columns is None else columns)
    unknown = [name for name in wanted if name not in (*SITE_COLUMNS, "geometry")]
    if unknown:
        raise InputError(
            "E_SITES_COLUMN", f"there is no column {unknown[0]!r}", where="columns",
            next_step="choose from " + ", ".join((*SITE_COLUMNS, "geometry")),
        )  # fmt: skip
    folders = _country_folders(certification_folder(cert, runs), seed)
    absent = [code for code in countries or () if code not in folders]
    if absent:
        raise InputError(
            "E_SITES_COUNTRY", f"seed {seed} has no site in {absent[0]!r}", where="countries",
            next_step="use ISO 3166-1 alpha-2 codes of countries with sites",
        )  # fmt: skip
    tables = []
    for code in sorted(folders if countries is None else set(countries)):
        for path in sorted(folders[code].glob("*.parquet")):
            inside = [name for name in wanted if name != SITE_COLUMNS[0]]
            table = pq.ParquetFile(path).read(columns=inside or ["site_order"])
            if SITE_COLUMNS[0] in wanted:
                names = pa.repeat(pa.scalar(code, pa.string()), table.num_rows)
                table = table.append_column(pa.field(SITE_COLUMNS[0], pa.string(), nullable=False), names)
            tables.append(table.select(wanted).replace_schema_metadata(None))
    joined = pa.concat_tables(tables)
    if as_ == "polars":
        import polars as pl

        return pl.from_arrow(joined)
    return joined


def _country_folders(cert: Path, seed: int) -> dict[str, Path]:
    document = load_certificate(cert)
    entries = {int(entry["seed"]): entry for entry in document["seeds"]}
    if seed not in entries:
        raise InputError(
            "E_CERTIFICATE_SEED", f"the certification has no seed {seed}", where=str(cert),
            next_step="its seeds are " + ", ".join(map(str, entries)),
        )  # fmt: skip
    root = cert / str(entries[seed]["site_locations"])
    return {path.name.partition("=")[2]: path for path in sorted(root.glob("legal_country_iso=*"))}


# -- what the command line shares


def certification_folder(cert: PathLike, runs: PathLike = "runs") -> Path:
    """A certification's folder from what a user typed: a folder, or an id or a prefix of it in the store.

    Raises InputError E_CERTIFICATE_MISSING for a folder without a certificate, E_STORE_UNKNOWN_ID for an id that the
    store does not have or that several begin with, E_STORE_* where there is no store.
    """
    path = Path(cert)
    if (path / "certificate.json").is_file():
        return path
    text = os.fspath(cert)
    if path.exists() or os.sep in text:
        raise InputError(
            "E_CERTIFICATE_MISSING", "there is no certificate.json in this folder", where=text,
            next_step="name the folder <runs>/certifications/<cert_id>, or the id itself",
        )  # fmt: skip
    from seg1b.store.store import Store

    with Store.open(Path(runs), create=False) as store:
        return store.certifications.path(text)


def check_seeds(seeds: Sequence[int] | None, policies: Policies) -> tuple[int, ...]:
    """The seeds to run: as given, or the certification policy's. Raises InputError E_SEED."""
    chosen = tuple(seeds) if seeds else tuple(policies.certification.seeds)
    for seed in chosen:
        if not 0 <= seed < 2**64 or chosen.count(seed) > 1:
            problem = "is given twice" if chosen.count(seed) > 1 else "is not in 0 .. 2^64 - 1"
            raise InputError(
                "E_SEED", f"seed {seed} {problem}", where="--seed", next_step="name each seed once"
            )
    return chosen


def _runner(executor: str | Executor, workers: int | None, address: str | None) -> Executor:
    """The executor of that name, or the one that was handed in."""
    if isinstance(executor, str):
        return choose_executor(executor, workers=workers, address=address)[0]
    return executor


def choose_executor(
    name: str, *, workers: int | None = None, address: str | None = None
) -> tuple[Executor, str]:
    """An executor by name, and why it was chosen. Raises InputError E_EXECUTOR, or Ray's own E_RAY_* codes."""
    from seg1b.lanes.executor import SerialExecutor, ThreadExecutor

    if name not in ("auto", "serial", "threads", "ray"):
        raise InputError(
            "E_EXECUTOR", f"there is no executor {name!r}", where="executor",
            next_step="choose auto, serial, threads or ray",
        )  # fmt: skip
    if name in ("serial", "threads"):
        if workers not in (None, 1) or address is not None:
            option = "--address" if address is not None else "--workers"
            raise InputError(
                "E_EXECUTOR", f"{option} is for Ray; the {name} executor is this process alone", where=option,
                next_step="leave it out, or use --executor ray",
            )  # fmt: skip
        return SerialExecutor() if name == "serial" else ThreadExecutor(), "as asked"
    if name == "auto" and address is None and workers in (None, 1) and usable_cpus() == 1:
        return SerialExecutor(), "auto: there is one CPU, so workers would only wait for each other"
    try:
        from cluster.executor import RayExecutor
        from cluster.session import RayOptions
    except ImportError as error:
        if name == "auto" and address is None and workers is None:
            return SerialExecutor(), f"auto: Ray cannot be imported ({error})"
        raise InputError(
            "E_RAY_PACKAGE",
            f"Ray cannot be imported: {error}",
            where="--executor ray",
            next_step="install ray, or use --executor serial",
        ) from error
    executor: Executor = RayExecutor(RayOptions(address=address, workers=workers, warm_up=WARM_UP))
    if address is not None:
        return executor, f"joining {address}"
    cpus = workers or usable_cpus()
    plural = f"{cpus} CPU" + ("s" if cpus != 1 else "")
    return executor, f"{'auto' if name == 'auto' else 'as asked'}: seeds and shards in parallel on {plural}"


@contextmanager
def checked_catalogue(path: Path | None, world: World) -> Iterator[Path | None]:
    """A user's catalogue as a verified 1A bundle: its own folder, or a temporary one made from its file.

    Raises the named errors of the loaders before anything is stored.
    """
    if path is None:
        yield None
    elif path.is_dir():
        from seg1b.catalogue.verify import read_catalogue, verify_bundle

        read_catalogue(verify_bundle(path), world.countries.iso)
        yield path
    else:
        from seg1b.catalogue.bundle import write_user_catalogue
        from seg1b.catalogue.user import load_user_catalogue

        loaded = load_user_catalogue(path, world.countries.iso)
        with tempfile.TemporaryDirectory(prefix="seg1b-catalogue-") as scratch:
            write_user_catalogue(Path(scratch) / "bundle", loaded.catalogue)
            yield Path(scratch) / "bundle"


def _path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)
