"""The commands that read: verify, runs, report, map, screen, catalogue, world, config, version, tune, controls."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_cases import EVERY_COMMAND, Command, Published
from typer.testing import CliRunner

from seg1b import api
from seg1b.cli.app import COMMANDS as COMMANDS_OF_FILES
from seg1b.cli.app import application
from seg1b.errors import InputError
from seg1b.lanes.controls import ControlRow
from seg1b.policy.load import defaults_directory, knobs, load_policies
from seg1b.store.store import Store


def test_help_imports_nothing_heavy() -> None:
    """Start-up stays short because no command's rooms are imported for it."""
    code = (
        "import sys; from seg1b.cli.app import run; run(['--help']);"
        "heavy = {'numpy', 'pyarrow', 'numba', 'scipy', 'ray', 'pydantic', 'polars'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_the_lane_that_judges_again_loads_no_compiled_code() -> None:
    """Under other thresholds nothing is computed, and to load kernels would take longer than all the rest."""
    code = (
        "import sys, seg1b.lanes.tune, seg1b.lanes.rejudge, seg1b.cli.tune_command;"
        "heavy = {'numba', 'llvmlite', 'scipy', 'ray', 'polars', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_screening_loads_no_compiled_code(tmp_path: Path) -> None:
    """A catalogue is screened in the time that loading kernels would take, compiled already or not."""
    catalogue = tmp_path / "pairs.csv"
    catalogue.write_text("merchant_id,country,n_sites\n1,FR,3\n2,DE,4\n3,PE,5\n")
    code = (
        "import sys; from seg1b.cli.app import run; "
        f"assert run(['screen', {str(catalogue)!r}, '--runs', {str(tmp_path / 'none')!r}]) == 0;"
        "assert 'seg1b.store.store' not in sys.modules;"
        "import seg1b.store.store, seg1b.states.s2_shares;"  # for a world whose facts are not packaged
        "heavy = {'numba', 'llvmlite', 'scipy', 'ray', 'polars', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "name", [("tune", "--set", "a=1"), ("screen", "x.csv"), ("catalogue", "synth", "--out", "x")]
)
def test_a_seed_beyond_64_bits_is_refused_at_the_option(command: Command, name: tuple[str, ...]) -> None:
    """And nothing is looked at."""
    outcome = command(*name, "--seed", 2**64)
    assert outcome.exit_code == 2
    assert "--seed" in outcome.stderr


def test_every_command_is_found_in_its_file() -> None:
    """`COMMANDS` lists what each file registers, so that one command alone can be imported."""
    for file, names in COMMANDS_OF_FILES.items():
        app = typer.Typer()
        importlib.import_module(f"seg1b.cli.{file}").register(app)
        registered = [one.name for one in app.registered_groups] + [
            one.name for one in app.registered_commands
        ]
        assert sorted(map(str, registered)) == sorted(names), file


def test_a_command_alone_is_what_it_is_among_all() -> None:
    """`seg1b X --help` imports X's file and says what it says with every command there; the unknown is refused."""
    for arguments, code in ((["screen", "--help"], 0), (["wave", "show", "--help"], 0), (["scren"], 2)):
        outcomes = [
            CliRunner().invoke(app, arguments, prog_name="seg1b")
            for app in (application(arguments[0]), EVERY_COMMAND)
        ]
        assert [one.exit_code for one in outcomes] == [code, code]
        assert outcomes[0].stdout == outcomes[1].stdout
        assert outcomes[0].stderr == outcomes[1].stderr
    alone = application("screen").registered_commands
    assert [one.name for one in alone] == ["screen"]


# -- verify


def test_verify_agrees_with_a_copy_and_finds_a_prefix(
    command: Command, published: Published, copied: Path
) -> None:
    """The copy needs no store; the prefix needs the store only to be found."""
    outcome = command("verify", copied, "--json")
    facts = outcome.json()
    assert (outcome.exit_code, facts["ok"], facts["findings"]) == (0, True, [])
    assert facts["cert_id"] == published.document["cert_id"]
    assert facts["checked"]
    assert [name for name, packaged in facts["packaged"].items() if packaged] == [
        "gates_are_the_packaged_ones",
        "world_is_the_packaged_one",
    ]
    told = command("verify", copied).stdout
    assert "Earned with other parameters and seeds than those packaged with seg1b" in told


def test_verify_ends_with_4_on_a_lie(command: Command, copied: Path) -> None:
    """A grade that was not earned."""
    path = copied / "certificate.json"
    path.write_text(path.read_text().replace('"below_B"', '"B+"'))
    outcome = command("verify", copied)
    assert outcome.exit_code == 4
    assert "VERIFICATION FAILED" in outcome.stdout


def test_verify_of_nothing_ends_with_2(command: Command, published: Published, tmp_path: Path) -> None:
    """A folder without a certificate, an id that nobody has, a store that is not there."""
    assert command("verify", tmp_path, "--json").error()["code"] == "E_CERTIFICATE_MISSING"
    unknown = command("verify", "abcdef123", "--runs", published.runs, "--json")
    assert (unknown.exit_code, unknown.error()["code"]) == (2, "E_STORE_UNKNOWN_ID")
    assert (
        command("verify", "abcdef123", "--runs", tmp_path / "x", "--json").error()["code"]
        == "E_STORE_MISSING"
    )


# -- runs, report, map


def test_runs_list_and_show(command: Command, published: Published) -> None:
    """A run by its prefix, a certification by its."""
    run_id, cert_id = published.document["seeds"][0]["run_id"], published.document["cert_id"]
    listed = command("runs", "list", "--runs", published.runs, "--json").json()
    assert run_id in {entry["run_id"] for entry in listed["runs"]}
    assert listed["certifications"][0]["cert_id"] == cert_id
    shown = command("runs", "show", run_id[:8], "--runs", published.runs, "--json").json()
    assert (shown["run_id"], shown["identity"]["seed"]) == (run_id, 7)
    assert (
        command("runs", "show", cert_id[:8], "--runs", published.runs, "--json").json()["grade"] == "below_B"
    )
    assert run_id[:12] in command("runs", "list", "--runs", published.runs).stdout
    missing = command("runs", "show", "nothing", "--runs", published.runs, "--json")
    assert (missing.exit_code, missing.error()["code"]) == (2, "E_STORE_UNKNOWN_ID")


def test_prune_is_a_dry_run_and_a_slip_removes_nothing(command: Command, published: Published) -> None:
    """`--yes` removes, but nothing that the certification holds."""
    plan = command("runs", "prune", "--runs", published.runs, "--json").json()
    assert not plan["removed"]
    slip = command("runs", "prune", "--runs", published.runs, "--keep", "0123456789", "--yes", "--json")
    assert (slip.exit_code, slip.error()["code"]) == (2, "E_STORE_UNKNOWN_ID")
    done = command("runs", "prune", "--runs", published.runs, "--yes", "--json").json()
    assert done["removed"]
    assert done["live"] == plan["live"] > 0
    assert published.path.is_dir()


def test_a_certification_goes_by_name_and_pruning_collects_what_it_held(
    command: Command, published: Published, tmp_path: Path
) -> None:
    """First a look; a pointer that rests on it keeps it; the ledger says that it went."""
    runs, cert_id = tmp_path / "runs", published.document["cert_id"]
    shutil.copytree(published.runs, runs)
    with Store.open(runs) as store:
        store.pointers.set("last_good", published.document["seeds"][0]["run_id"])
    refused = command("runs", "remove", cert_id, "--yes", "--runs", runs, "--json")
    assert (refused.exit_code, refused.error()["code"]) == (2, "E_CERTIFICATION_HELD")
    assert "pointer last_good" in refused.error()["message"]
    shutil.rmtree(runs / "pointers")
    look = command("runs", "remove", cert_id[:8], "--runs", runs)
    assert f"seg1b runs remove {cert_id} --yes" in look.stdout
    assert (runs / "certifications" / cert_id).is_dir()
    assert command("runs", "remove", cert_id[:8], "--yes", "--runs", runs).exit_code == 2
    done = command("runs", "remove", cert_id, "--yes", "--runs", runs, "--json").json()
    assert (done["removed"], done["grade"], done["seeds"]) == (True, "below_B", [7])
    assert not (runs / "certifications" / cert_id).exists()
    pruned = command("runs", "prune", "--yes", "--runs", runs, "--json").json()
    assert pruned["collectable_bytes"] >= done["held_bytes"] > 0
    assert pruned["live"] == 0
    run_id = published.document["seeds"][0]["run_id"]
    gone = command("runs", "prune", "--keep", run_id[:8], "--runs", runs, "--json")
    assert (gone.exit_code, gone.error()["code"]) == (2, "E_RUN_PRUNED")
    assert f"run {run_id[:12]} was pruned at 20" in gone.error()["message"]
    assert "certification_removed" in command("ledger", "--runs", runs).stdout


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EROFS, "E_STORE_READ_ONLY"), (errno.ENOSPC, "E_STORE_FULL")]
)
def test_a_store_that_cannot_be_written_is_no_internal_error(
    command: Command, published: Published, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    """Exit code 2, as for all that a user can mend."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("seg1b.store.filesystem.FileSystem.create", refuse)
    run_id = published.document["seeds"][0]["run_id"]
    outcome = command("promote", run_id, "--runs", published.runs, "--json")
    error = outcome.error()
    assert (outcome.exit_code, error["code"], error["exit_code"]) == (2, code, 2)
    assert error["where"]
    assert error["next_step"]


def test_report_is_found_and_copied(command: Command, published: Published, tmp_path: Path) -> None:
    """The path on stdout, and the same page elsewhere."""
    cert_id = published.document["cert_id"]
    page = Path(command("report", cert_id[:10], "--runs", published.runs).stdout.replace("\n", ""))
    assert page == published.path / "report" / "index.html"
    assert command("report", published.path, "--out", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_bytes() == page.read_bytes()
    lost = command("report", published.path, "--out", tmp_path / "no" / "page.html", "--json")
    assert lost.error()["code"] == "E_OUTPUT_FOLDER"


def test_an_output_that_cannot_be_written_is_no_internal_error(
    command: Command, published: Published, tmp_path: Path
) -> None:
    """Exit code 2, and where."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    nowhere = tmp_path / "file" / "bundle"
    for arguments, where in (
        (("map", published.path, "WORLD", "--out", tmp_path / "folder.png"), tmp_path / "folder.png"),
        (("catalogue", "synth", "--seed", 7, "--out", nowhere), nowhere),
    ):
        outcome = command(*arguments, "--json")
        error = outcome.error()
        assert (outcome.exit_code, error["code"]) == (2, "E_OUTPUT_WRITE")
        assert error["where"].startswith(str(where))


def test_map_draws_a_png(command: Command, published: Published, tmp_path: Path) -> None:
    """Of a country that has sites; others are errors."""
    out = tmp_path / "map.png"
    drawn = command("map", published.path, "in", "--out", out, "--width", 300, "--json")
    assert (drawn.exit_code, drawn.json()["seed"]) == (0, 7)
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert command("map", published.path, "QQ", "--out", out, "--json").error()["code"] == "E_COUNTRY_UNKNOWN"
    assert command("map", published.path, "AQ", "--out", out, "--json").error()["code"] == "E_SITES_COUNTRY"
    wrong = command("map", published.path, "IN", "--seed", 8, "--out", out, "--json")
    assert (wrong.exit_code, wrong.error()["code"]) == (2, "E_CERTIFICATE_SEED")


# -- catalogue and screen


def test_synth_check_and_screen_agree(command: Command, small: Path, tmp_path: Path) -> None:
    """A synthesised bundle is an ordinary one; too few outlets cannot reach B, and 3 says so."""
    out = tmp_path / "bundle"
    made = command("catalogue", "synth", "--seed", 7, "--config", small, "--out", out, "--json").json()
    assert (made["merchants"], made["seed"]) == (600, 7)
    again = command("catalogue", "synth", "--seed", 7, "--config", small, "--out", out, "--json")
    assert (again.exit_code, again.error()["code"]) == (2, "E_BUNDLE_EXISTS")
    checked = command("catalogue", "check", out, "--require", "B", "--json")
    facts = checked.json()
    assert len(facts["guard"]["metrics"]) == 14
    assert facts["contract"]["catalogue_digest"] == made["catalogue_digest"]
    assert facts["screen"]["sites"] == made["outlets"]
    assert checked.exit_code == (0 if facts["screen"]["reachable"] != "below_B" else 3)
    readable = command("catalogue", "check", out, "--require", "none")
    assert "phi cv" in readable.stdout


def test_screen_ranks_and_says_what_is_lacking(command: Command, tmp_path: Path) -> None:
    """Everything in Monaco is hopeless; the default policies reach B+."""
    hopeless = tmp_path / "monaco.csv"
    hopeless.write_text("merchant_id,country,n_sites\n1,MC,40\n2,MC,30\n3,NA,1\n")
    policy = defaults_directory() / "policy" / "catalogue.synthesis.yaml"
    outcome = command("screen", hopeless, policy, "--json")
    best, worst = outcome.json()["candidates"]
    assert outcome.exit_code == 0
    assert (best["reachable"], best["shortlisted"], best["lacks"]) == ("B+", True, [])
    assert (worst["reachable"], worst["shortlisted"]) == ("below_B", False)
    assert worst["distance_to_b"] > 0.0
    told = {lack["name"]: lack["text"] for lack in worst["lacks"]}
    assert "Monaco" not in told["top1_share"]
    assert "MC 98.6%" in told["top1_share"]
    assert "208 more eligible countries need an outlet" in told["eligible_country_nonzero_share"]
    assert "merchant 1 has 40 of the 70 outlets of MC" in told["largest_merchant_share"]
    assert command("screen", hopeless, "--require", "B").exit_code == 3
    places = [row["shortlisted"] for row in command("screen", policy, policy, "--json").json()["candidates"]]
    assert places == [True, False]
    twice = " ".join(command("screen", policy, policy).stdout.split())
    assert "not shortlisted: the same catalogue, given twice" in twice
    assert "cannot reach B" in command("screen", hopeless).stdout


def test_screen_says_that_no_change_was_found_and_never_that_there_is_none(
    command: Command, tmp_path: Path
) -> None:
    """Gates that nothing can meet; a distance that cannot be computed is a dash, and null."""
    alone = tmp_path / "alone.csv"
    alone.write_text("merchant_id,country,n_sites\n1,FR,3\n")
    gates = tmp_path / "config"
    gates.mkdir()
    text = (defaults_directory() / "gates.yaml").read_text()
    assert "b: 0.10, b_plus: 0.08}" in text
    (gates / "gates.yaml").write_text(text.replace("b: 0.10, b_plus: 0.08}", "b: 0.001, b_plus: 0.001}"))
    outcome = command("screen", alone, "--config", gates, "--least-change")
    assert "no change of counts that reaches B was found" in outcome.stdout
    assert " - " in outcome.stdout
    told = command("screen", alone, "--config", gates, "--least-change", "--json").json()["candidates"][0]
    assert told["distance_to_b"] is None
    assert [repair["found"] for repair in told["least_change"]] == [False, False]
    assert "top1_share" in told["least_change"][0]["unmet"]


# -- world, config, version


def test_world_info_shows_attribution_exclusions_and_digests(command: Command) -> None:
    """Licences ask for the first, sceptics for the rest."""
    facts = command("world", "info", "--json").json()
    assert any("GeoNames" in sentence for sentence in facts["attribution"])
    assert {"AQ", "BV"} <= {row["iso"] for row in facts["excluded"]}
    assert all(row["reason"] for row in facts["excluded"])
    assert len(facts["files"]["vertices.parquet"]["sha256"]) == 64
    assert "Natural Earth" in command("world", "info").stdout


def test_world_build_refuses_nothing_and_keeps_nothing(command: Command, tmp_path: Path) -> None:
    """Neither polygons nor population; a raster that is none."""
    outcome = command("world", "build", "--out", tmp_path / "w", "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, "W211")
    (tmp_path / "x.tif").write_bytes(b"no raster")
    bad = command("world", "build", "--population", tmp_path / "x.tif", "--out", tmp_path / "w", "--json")
    assert bad.exit_code == 2
    assert not (tmp_path / "w").exists()


def test_config_show_has_every_knob_and_its_origin(command: Command, small: Path) -> None:
    """One file from the folder, the others from the defaults."""
    facts = command("config", "show", "--config", small, "--json").json()
    assert set(facts["knobs"]) == set(knobs(load_policies(small)))
    assert facts["knobs"]["synthesis.merchants"]["value"] == 600
    assert facts["knobs"]["synthesis.merchants"]["origin"] == "explicit"
    assert facts["knobs"]["s1.predicate"]["origin"] == "defaults"
    assert len(facts["parameter_hash"]) == 64


def test_a_config_in_the_working_directory_is_seen(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used, and the terminal says so."""
    monkeypatch.chdir(small.parent)
    outcome = command("config", "show")
    assert "found in the working directory" in outcome.stderr
    assert "600" in outcome.stdout


def test_version(command: Command) -> None:
    """Also of what it computes with."""
    facts = command("version", "--json").json()
    assert {"seg1b", "python", "numpy", "ray"} <= set(facts)
    assert "seg1b" in command("version").stdout


# -- tune and controls


def test_tune_compares_and_never_certifies(
    command: Command, published: Published, small: Path, tmp_path: Path
) -> None:
    """S6's knob reruns S6 to S9 and nothing else."""
    runs = Path(shutil.copytree(published.runs, tmp_path / "runs"))
    options = ("--config", small, "--seed", 7, "--set", "s6.cluster_v3.core_sd_tile=0.2", "--json")
    outcome = command("tune", "--runs", runs, *options)
    facts = outcome.json()
    assert outcome.exit_code == (3 if facts["vetoed"] else 0)
    assert facts["reran"] == ["S6", "S7", "S8", "S9"]
    assert {"name", "before", "after", "verdict"} <= set(facts["gates"][0])
    listed = command("runs", "list", "--runs", runs, "--json").json()
    assert len(listed["certifications"]) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("s6.nothing=1", "E_POLICY_UNKNOWN_KNOB"),
        ("s4.two_stage.sites_per_area", "E_OPTION_SET"),
        ("s2w.mix.population=0.5", "E_POLICY_MIX_SUM"),
    ],
)
def test_tune_refuses_knobs_that_cannot_be(command: Command, tmp_path: Path, text: str, code: str) -> None:
    """Before a store is made."""
    outcome = command("tune", "--runs", tmp_path / "runs", "--set", text, "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("knob", ["s2s.prior.gdp_exponent=0.6", "synthesis.merchants=500"])
def test_tune_refuses_knobs_that_a_catalogue_of_ones_own_does_not_feel(
    command: Command, tmp_path: Path, knob: str
) -> None:
    """Shares and synthesis make no outlet there: a comparison of equals would mislead. In the library too."""
    path, runs = tmp_path / "outlets.csv", tmp_path / "runs"
    path.write_text("merchant_id,country,n_sites\n1,FR,3\n")
    options = ("--catalogue", path, "--set", "s6.cluster_v3.core_sd_tile=0.2", "--set", knob)
    outcome = command("tune", "--runs", runs, *options, "--json")
    error = outcome.error()
    assert (outcome.exit_code, error["code"], error["where"]) == (2, "E_TUNE_NO_EFFECT", str(path))
    assert knob.split("=")[0] in error["message"]
    assert "s6" not in error["message"]
    name, _, value = knob.partition("=")
    with pytest.raises(InputError) as caught:
        api.tune({name: float(value)}, seed=42, runs=runs, catalogue=path)
    assert caught.value.code == "E_TUNE_NO_EFFECT"
    assert not runs.exists()


@pytest.mark.parametrize("held", [True, False])
def test_controls_end_with_1_if_a_gate_is_blind(
    command: Command, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """The lane itself has its own tests."""

    def rows(*_: Any, **__: Any) -> tuple[ControlRow, ...]:
        return (
            ControlRow("uniform_scatter", "anywhere", ("prior_kl",), ("prior_kl",) if held else (), held),
        )

    monkeypatch.setattr("seg1b.lanes.controls.run_controls", rows)
    outcome = command("controls", "--json")
    assert outcome.exit_code == (0 if held else 1)
    assert json.loads(outcome.stdout)["ok"] is held
    assert ("NOT SEEN" in command("controls").stdout) is not held
