"""Finding, reading and digesting policy files."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import pickle
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.policy import yaml_reader
from seg1b.policy.base import exact_fraction
from seg1b.policy.load import (
    POLICY_FILES,
    canonical,
    canonical_json,
    default_policies,
    defaults_directory,
    digest,
    gates_hash,
    load_policies,
    parameter_hash,
    policy_digests,
    set_values,
)
from seg1b.policy.yaml_reader import parse_yaml
from seg1b.store.digest import canonical_json as store_canonical_json


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A complete copy of the shipped files."""
    return Path(shutil.copytree(defaults_directory(), tmp_path / "mine"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_an_explicit_folder_wins_and_lacking_files_come_from_the_defaults(tmp_path: Path) -> None:
    """And the sources say which file came from where."""
    (tmp_path / "policy").mkdir()
    shutil.copy(defaults_directory() / "policy/s4.alloc_plan.yaml", tmp_path / "policy")
    _edit(tmp_path / "policy/s4.alloc_plan.yaml", "sites_per_area: 8", "sites_per_area: 6")
    policies = load_policies(tmp_path)
    assert policies.allocation.two_stage.sites_per_area == 6
    assert policies.jitter == default_policies().jitter
    origins = {name: source.origin for name, source in policies.sources.items()}
    assert origins.pop("policy/s4.alloc_plan.yaml") == "explicit"
    assert set(origins.values()) == {"defaults"}
    assert str(tmp_path) in str(policies.sources["policy/s4.alloc_plan.yaml"])


def test_the_working_directory_comes_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But only if its `config` folder holds policies: other programs have such folders too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "database.yaml").write_text("port: 1\n")
    assert load_policies().sources["gates.yaml"].origin == "defaults"
    shutil.copy(defaults_directory() / "certification.yaml", tmp_path / "config")
    assert load_policies().sources["certification.yaml"].origin == "working_directory"
    assert load_policies().sources["gates.yaml"].origin == "defaults"


def test_the_wheel_carries_the_files_where_the_loader_looks() -> None:
    """`config` is packed as `seg1b/_config`, and every governed file is in it."""
    root = Path(__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"config": "seg1b/_config"}
    for file in POLICY_FILES:
        assert (root / "config" / file.path).is_file()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("policy/s6.jiter.yaml", "mean 'policy/s6.jitter.yaml'"), ("gate.yaml", "did you mean 'gates.yaml'"),
     ("s6.jitter.yaml", "did you mean 'policy/s6.jitter.yaml'"),
     ("policy/notes.yml", "is not a policy file")],
)  # fmt: skip
def test_a_misspelt_file_name_is_an_error(config: Path, name: str, hint: str) -> None:
    """It must not silently mean the default."""
    (config / name).write_text("x: 1\n")
    with pytest.raises(InputError, match="E_POLICY_UNKNOWN_FILE") as error:
        load_policies(config)
    assert hint in error.value.message


def test_files_of_other_rooms_may_lie_beside(config: Path) -> None:
    """Such as budgets."""
    (config / "playbook.yaml").write_text("s4: 1\n")
    load_policies(config)


@pytest.mark.parametrize("what", ["missing", "a file", "empty", "flat"])
def test_a_folder_without_policies_is_an_error(config: Path, tmp_path: Path, what: str) -> None:
    """A mistyped path must not silently mean the defaults."""
    folder = {"missing": tmp_path / "x", "a file": config / "gates.yaml", "empty": tmp_path / "e"}.get(
        what, config / "policy"
    )
    if what == "empty":
        folder.mkdir()
    with pytest.raises(InputError, match="E_POLICY_DIRECTORY") as error:
        load_policies(folder)
    assert ("above policy/" in error.value.next_step) == (what == "flat")


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("max_attempts: 64", "max_atempts: 64", "E_POLICY_MISSING_KEY", "did you mean 'max_attempts'"),
        ("max_attempts: 64", "max_attempts: 64\nmax_attempt: 3", "E_POLICY_UNKNOWN_KEY", "'max_attempts'"),
        ("max_attempts: 64", "", "E_POLICY_MISSING_KEY", "this key is missing"),
        ("max_attempts: 64", "max_attempts: 64\nmax_attempts: 65", "E_POLICY_DUPLICATE_KEY", "lines 4 and 5"),
        ("    core: 0.5", "    core: 0.5\n    core: 0.4", "E_POLICY_DUPLICATE_KEY", "'core'"),
        ("max_attempts: 64", "max_attempts: [", "E_POLICY_PARSE", "not valid YAML"),
        ("max_attempts: 64", "max_attempts: 64\n\tx: 1", "E_POLICY_PARSE", "not valid YAML"),
        ("max_attempts: 64", "max_attempts: &a 64\nx: *a", "E_POLICY_PARSE", "aliases"),
        ("max_attempts: 64", "max_attempts: &a [*a]", "E_POLICY_PARSE", "aliases"),
        ("max_attempts: 64", "max_attempts: 64\n1: 2", "E_POLICY_PARSE", "quote it"),
        ("max_attempts: 64", "max_attempts: 64\n---\nx: 1", "E_POLICY_PARSE", "not valid YAML"),
        ("max_attempts: 64", "max_attempts: 64 people", "E_POLICY_VALUE", "integer"),
        ("max_attempts: 64", "max_attempts: .inf", "E_POLICY_VALUE", "got inf"),
        ("max_attempts: 64", "max_attempts: !!python/name:os.system", "E_POLICY_PARSE", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_code_file_and_reason(
    config: Path, old: str, new: str, code: str, says: str
) -> None:
    """The error names the file, and what to do."""
    _edit(config / "policy/s6.jitter.yaml", old, new)
    with pytest.raises(InputError) as error:
        load_policies(config)
    assert error.value.code == code, error.value
    assert says in error.value.message
    assert str(config / "policy/s6.jitter.yaml") in error.value.where
    assert error.value.next_step


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"[1, 2]\n", b"42\n"])
def test_a_file_that_is_no_block_is_refused(config: Path, content: bytes) -> None:
    """Empty, a list, a number."""
    (config / "gates.yaml").write_bytes(content)
    with pytest.raises(InputError, match="must be a block of keys"):
        load_policies(config)


def test_a_file_that_is_no_text_is_refused(config: Path) -> None:
    """UTF-16 from some editor."""
    (config / "gates.yaml").write_bytes("baseline: 1".encode("utf-16"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_policies(config)


def test_namibia_and_norway_survive(config: Path) -> None:
    """YAML 1.1 would read `NO` as false; a CSV reader would read `NA` as nothing."""
    _edit(config / "policy/s3.requirements.yaml", "[]", "[NO, NA, ON]")
    assert load_policies(config).requirements.denylist_country_iso == ("NA", "NO", "ON")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-9", 1e-9), ("1.0e-12", 1e-12), (".5", 0.5), ("010", 10), ("1:30", "1:30"), ("0x10", "0x10"),
     ("2024-01-01", "2024-01-01"), ("on", "on"), ("True", True), ("~", None), ("1_000", "1_000"), ("''", "")],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """Numbers are decimal, dates and sexagesimals are text."""
    assert parse_yaml(f"x: {text}", "test") == {"x": value}


def test_writing_does_not_change_a_digest(config: Path) -> None:
    """Comments, key order, spacing, `1` for `1.0`, the order of a denylist."""
    _edit(config / "policy/s2.tile_weights.yaml", "population: 1.0", "population: 1   # all of it")
    _edit(config / "policy/s2.tile_weights.yaml", "uniform: 0.0", "uniform: -0.0")
    path = config / "policy/s5.assignment.yaml"
    path.write_text(
        "\n".join(reversed([line for line in path.read_text().splitlines() if line[:1] not in "# "]))
    )
    policies = load_policies(config)
    assert parameter_hash(policies) == parameter_hash(default_policies())
    first = set_values(policies, {"s3.denylist_country_iso": ["NA", "AD"]})
    assert digest(first.requirements) == digest(
        set_values(policies, {"s3.denylist_country_iso": ["AD", "NA"]}).requirements
    )


def test_which_hash_covers_which_file() -> None:
    """Generation policies feed the parameter hash; gates only the gates hash; certification neither."""
    base = default_policies()
    changes = {
        "s1.resolution_arcsec": 60, "s2w.dp": 11, "s2s.prior.tempering": 0.6, "synthesis.merchants": 9000,
        "s3.enabled": False, "s4.two_stage.sites_per_area": 7, "s5.rng": "v1", "s6.max_attempts": 65,
    }  # fmt: skip
    seen = {parameter_hash(base)}
    for name, value in changes.items():
        changed = set_values(base, {name: value})
        seen.add(parameter_hash(changed))
        assert gates_hash(changed) == gates_hash(base)
    assert len(seen) == len(changes) + 1
    gates = set_values(base, {"gates.cv.b": 0.31})
    assert (parameter_hash(gates), gates_hash(gates) == gates_hash(base)) == (parameter_hash(base), False)
    certification = set_values(base, {"certification.seeds": [42]})
    assert (parameter_hash(certification), gates_hash(certification)) == (
        parameter_hash(base),
        gates_hash(base),
    )


def test_every_policy_file_has_its_own_digest() -> None:
    """A changed knob changes its file's digest and no other; the parameter hash follows from the digests."""
    base = policy_digests(default_policies())
    assert set(base) == {file.path for file in POLICY_FILES} - {
        "retention.yaml",
        "budgets.yaml",
        "lanes.yaml",
    }
    changes = {"policy/s6.jitter.yaml": ("s6.max_attempts", 65), "gates.yaml": ("gates.cv.b", 0.31),
               "guard.yaml": ("guard.grades.b_share_min", 0.71)}  # fmt: skip
    for path, (knob, value) in changes.items():
        changed = policy_digests(set_values(default_policies(), {knob: value}))
        assert [name for name in base if changed[name] != base[name]] == [path]
    kept = set_values(default_policies(), {"retention.keep_newest_runs": 3, "budgets.noise_floor_s": 0.5})
    assert policy_digests(kept) == base  # no result depends on what the store keeps
    generating = {file.path: base[file.path] for file in POLICY_FILES if file.generation}
    assert hashlib.sha256(canonical_json(generating)).hexdigest() == parameter_hash(default_policies())


def test_canonical_bytes_can_be_read_by_anyone() -> None:
    """Sorted keys, no spaces, shortest decimals."""
    assert canonical(default_policies().tile_index) == b'{"predicate":"center","resolution_arcsec":30}'
    assert canonical_json({"b": [0.1, -0.0], "a": None}) == b'{"a":null,"b":[0.1,0.0]}'


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_policy_and_store_agree_on_canonical_json(value: object) -> None:
    """Two rooms that may not import each other write the same bytes."""
    assert canonical_json(value) == store_canonical_json(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_an_exact_fraction_is_the_number_of_its_shortest_decimal(value: float) -> None:
    """And rounds back to the same float."""
    assert float(exact_fraction(value)) == value


def test_policies_are_immutable_and_travel_to_workers() -> None:
    """Pickled and back they are equal, sources included."""
    policies = default_policies()
    again = pickle.loads(pickle.dumps(policies))
    assert again == policies
    assert dict(again.sources) == dict(policies.sources)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policies.gates = again.gates  # type: ignore[misc]
    with pytest.raises(TypeError):
        policies.sources["x"] = policies.sources["gates.yaml"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\nb: [\n", "line 3"),
        ("a: 1\na: 2\n", "line 2"),
        ("a: &x 1\nb: *x\n", "line 1"),
        ("1: 2\n", "line 1"),
        ("a: 1\n b: 2\n", "line 2"),
        ("a: !!python/name:os.system 1\n", "line 1"),
    ],
)
def test_both_parsers_of_yaml_name_the_line(monkeypatch: pytest.MonkeyPatch, text: str, where: str) -> None:
    """PyYAML comes with libyaml and without: what is wrong, and on which line, does not depend on it."""
    codes = []
    for loader in ("CSafeLoader", "SafeLoader"):
        monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, loader), raising=False)
        reader = importlib.reload(yaml_reader)
        with pytest.raises(InputError) as caught:
            reader.parse_yaml(text, "file")
        assert where in caught.value.where
        codes.append(caught.value.code)
    monkeypatch.undo()
    importlib.reload(yaml_reader)
    assert codes[0] == codes[1]
