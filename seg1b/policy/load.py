"""Find, read and combine the governed policy files.

A folder of policies holds `policy/*.yaml`, `gates.yaml`, `guard.yaml`, `certification.yaml`, `retention.yaml`,
`budgets.yaml` and `lanes.yaml`. A file that it lacks comes from the packaged defaults; `Policies.sources` says which
file came from where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel

from seg1b.errors import InputError
from seg1b.policy.base import PolicyModel
from seg1b.policy.base import exact_fraction as exact_fraction
from seg1b.policy.budgets import BudgetsPolicy
from seg1b.policy.digest import canonical as canonical
from seg1b.policy.digest import canonical_json as canonical_json
from seg1b.policy.digest import combined_digest
from seg1b.policy.digest import digest as digest
from seg1b.policy.gates import CertificationPolicy, GatesPolicy
from seg1b.policy.guard import FreezeGuardPolicy
from seg1b.policy.lanes import LanesPolicy
from seg1b.policy.models import (
    AllocationPolicy,
    AssignmentPolicy,
    CountrySharesPolicy,
    JitterPolicy,
    RequirementsPolicy,
    SynthesisPolicy,
    TileIndexPolicy,
    TileWeightsPolicy,
)
from seg1b.policy.retention import RetentionPolicy
from seg1b.policy.validate import build, did_you_mean
from seg1b.policy.yaml_reader import parse_yaml, read_yaml

Origin = Literal["explicit", "working_directory", "defaults"]


@dataclass(frozen=True)
class PolicyFile:
    """One governed file: attribute of `Policies`, knob prefix, path below the folder, model.

    `generation`: data depend on it; `certified`: a certification is judged or made by it, and publishes it.
    """

    attribute: str
    prefix: str
    path: str
    model: type[PolicyModel]
    generation: bool
    certified: bool = True


POLICY_FILES: tuple[PolicyFile, ...] = (
    PolicyFile("tile_index", "s1", "policy/s1.tile_index.yaml", TileIndexPolicy, True),
    PolicyFile("tile_weights", "s2w", "policy/s2.tile_weights.yaml", TileWeightsPolicy, True),
    PolicyFile("country_shares", "s2s", "policy/s2.country_shares.yaml", CountrySharesPolicy, True),
    PolicyFile("synthesis", "synthesis", "policy/catalogue.synthesis.yaml", SynthesisPolicy, True),
    PolicyFile("requirements", "s3", "policy/s3.requirements.yaml", RequirementsPolicy, True),
    PolicyFile("allocation", "s4", "policy/s4.alloc_plan.yaml", AllocationPolicy, True),
    PolicyFile("assignment", "s5", "policy/s5.assignment.yaml", AssignmentPolicy, True),
    PolicyFile("jitter", "s6", "policy/s6.jitter.yaml", JitterPolicy, True),
    PolicyFile("gates", "gates", "gates.yaml", GatesPolicy, False),
    PolicyFile("guard", "guard", "guard.yaml", FreezeGuardPolicy, False),
    PolicyFile("certification", "certification", "certification.yaml", CertificationPolicy, False),
    PolicyFile("retention", "retention", "retention.yaml", RetentionPolicy, False, certified=False),
    PolicyFile("budgets", "budgets", "budgets.yaml", BudgetsPolicy, False, certified=False),
    PolicyFile("lanes", "lanes", "lanes.yaml", LanesPolicy, False, certified=False),
)
CERTIFIED_FILES = tuple(file for file in POLICY_FILES if file.certified)
_BY_PREFIX = {file.prefix: file for file in POLICY_FILES}
_BY_PATH = {file.path: file for file in POLICY_FILES}


@dataclass(frozen=True)
class PolicySource:
    """Where a policy file came from, and which of its knobs were set by `set_values` afterwards."""

    origin: Origin
    path: str
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.path} ({self.origin.replace('_', ' ')})"
        return text + (f" with {', '.join(self.overrides)} set" if self.overrides else "")


@dataclass(frozen=True)
class Policies:
    """All governed policies of a run; `sources` maps a file's path below the folder to its origin."""

    tile_index: TileIndexPolicy
    tile_weights: TileWeightsPolicy
    country_shares: CountrySharesPolicy
    synthesis: SynthesisPolicy
    requirements: RequirementsPolicy
    allocation: AllocationPolicy
    assignment: AssignmentPolicy
    jitter: JitterPolicy
    gates: GatesPolicy
    guard: FreezeGuardPolicy
    certification: CertificationPolicy
    retention: RetentionPolicy
    budgets: BudgetsPolicy
    lanes: LanesPolicy
    sources: Mapping[str, PolicySource] = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the read-only view of `sources`, which cannot be pickled itself."""
        values = [getattr(self, file.attribute) for file in POLICY_FILES]
        return type(self), (*values, dict(self.sources))


def defaults_directory() -> Path:
    """The packaged defaults: `seg1b/_config` of an installed wheel, else `config/` beside the package.

    Raises InputError E_POLICY_DEFAULTS_MISSING if neither has a `gates.yaml`.
    """
    package = Path(str(resources.files("seg1b")))
    for candidate in (package / "_config", package.parent / "config"):
        if (candidate / "gates.yaml").is_file():
            return candidate
    raise InputError(
        "E_POLICY_DEFAULTS_MISSING",
        "the packaged policy files are not there",
        where=str(package / "_config"),
        next_step="reinstall seg1b, or name a complete folder of policies",
    )


def load_policies(config_dir: Path | str | None = None) -> Policies:
    """Load every policy: from `config_dir`, else from `./config` if it holds policies, else the defaults.

    Raises InputError with code E_POLICY_* that names the file, the field and the next step.
    """
    directory, origin = _choose_directory(None if config_dir is None else Path(config_dir))
    values: dict[str, PolicyModel] = {}
    sources: dict[str, PolicySource] = {}
    for file in POLICY_FILES:
        path = directory / file.path
        if path.exists():
            values[file.attribute] = build(file.model, read_yaml(path), str(path))
            sources[file.path] = PolicySource(origin, str(path))
        else:
            packaged = default_policies()
            values[file.attribute] = getattr(packaged, file.attribute)
            sources[file.path] = PolicySource("defaults", packaged.sources[file.path].path)
    return Policies(**values, sources=sources)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def default_policies() -> Policies:
    """The packaged defaults, whatever the working directory holds."""
    return load_policies(defaults_directory())


def _choose_directory(config_dir: Path | None) -> tuple[Path, Origin]:
    if config_dir is None:
        here = Path("config")
        if here.is_dir() and any((here / file.path).exists() for file in POLICY_FILES):
            _refuse_unknown_files(here)
            return here, "working_directory"
        return defaults_directory(), "defaults"
    if not config_dir.is_dir():
        raise InputError(
            "E_POLICY_DIRECTORY",
            "this is not a folder",
            where=str(config_dir),
            next_step="name a folder that holds policy/*.yaml or "
            + ", ".join(file.path for file in POLICY_FILES if "/" not in file.path),
        )
    if not any((config_dir / file.path).exists() for file in POLICY_FILES):
        flat = [file.path for file in POLICY_FILES if (config_dir / Path(file.path).name).exists()]
        raise InputError(
            "E_POLICY_DIRECTORY",
            "the folder holds no policy file" + (f" at its place, such as {flat[0]}" if flat else ""),
            where=str(config_dir),
            next_step="name the folder above policy/" if flat else "copy the packaged config/ and change it",
        )
    _refuse_unknown_files(config_dir)
    return config_dir, "explicit"


def _refuse_unknown_files(directory: Path) -> None:
    """A misspelt file name must not silently mean 'use the default'."""
    names = ["policy/" + path.name for path in _yaml_files(directory / "policy")]
    names += [path.name for path in _yaml_files(directory)]
    at_root = [file.path for file in POLICY_FILES if "/" not in file.path]
    for name in names:
        if name in _BY_PATH:
            continue
        if "/" in name:
            hint = did_you_mean(name, _BY_PATH)
        elif f"policy/{name}" in _BY_PATH:
            hint = f"; did you mean 'policy/{name}'?"
        else:  # other rooms and other programs keep other files here: only a near miss is a mistake
            hint = did_you_mean(name, at_root, cutoff=0.8)
        if hint or "/" in name:
            raise InputError(
                "E_POLICY_UNKNOWN_FILE",
                f"{name} is not a policy file{hint}",
                where=str(directory / name),
                next_step="rename or remove it; known files: " + ", ".join(_BY_PATH),
            )


def _yaml_files(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from sorted(path for path in directory.iterdir() if path.suffix in {".yaml", ".yml"})


def parameter_hash(policies: Policies) -> str:
    """Digest of all generation policies (S1 to S6 and synthesis), 64 hex; gates are not part of it."""
    return combined_digest(
        {file.path: getattr(policies, file.attribute) for file in POLICY_FILES if file.generation}
    )


def gates_hash(policies: Policies) -> str:
    """Digest of the gates, 64 hex."""
    return digest(policies.gates)


def policy_digests(policies: Policies) -> dict[str, str]:
    """Digest (hex64) of the canonical form of every policy file that a result depends on, by its path.

    `parameter_hash` is the SHA-256 of the canonical JSON of those that generate.
    """
    return {file.path: digest(getattr(policies, file.attribute)) for file in CERTIFIED_FILES}


def knobs(policies: Policies) -> dict[str, Any]:
    """Every knob by dotted path (`s6.cluster_v3.component_weights.core`) with its value, in file order."""
    found: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{path}.{key}", item)
        else:
            found[path] = value

    for file in POLICY_FILES:
        walk(file.prefix, getattr(policies, file.attribute).model_dump())
    return found


def parse_value(text: str) -> Any:
    """The value of a knob as typed on a command line, by the rules of the policy files."""
    return parse_yaml(text, f"value {text!r}")


def set_values(policies: Policies, values: Mapping[str, Any]) -> Policies:
    """A copy of `policies` with knobs set by dotted path; checked together, so weights may change in one go.

    The first part names the file: s1, s2w, s2s, synthesis, s3, s4, s5, s6, gates, guard, certification,
    retention, budgets, lanes.
    A value may be a whole block. Raises InputError E_POLICY_UNKNOWN_KNOB, or the file's own E_POLICY_* code.
    """
    known = knobs(policies)
    changed: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        prefix, *steps = path.split(".")
        file = _BY_PREFIX.get(prefix)
        if file is None or not steps or not _is_knob(path, known):
            raise _unknown_knob(path, known)
        tree = changed.setdefault(prefix, getattr(policies, file.attribute).model_dump())
        for step in steps[:-1]:
            tree = tree[step]
        tree[steps[-1]] = value.model_dump() if isinstance(value, BaseModel) else value
    replaced: dict[str, Any] = {}
    sources = dict(policies.sources)
    for prefix, tree in changed.items():
        file = _BY_PREFIX[prefix]
        names = tuple(path for path in values if path.startswith(f"{prefix}."))
        replaced[file.attribute] = build(file.model, tree, f"{file.path} with {', '.join(names)} set")
        source = sources[file.path]
        overrides = tuple(dict.fromkeys((*source.overrides, *names)))
        sources[file.path] = dataclasses.replace(source, overrides=overrides)
    return dataclasses.replace(policies, **replaced, sources=sources)


def _is_knob(path: str, known: Mapping[str, Any]) -> bool:
    return path in known or any(name.startswith(f"{path}.") for name in known)


def _unknown_knob(path: str, known: Mapping[str, Any]) -> InputError:
    prefix, _, rest = path.partition(".")
    in_file = [name for name in known if name.startswith(f"{prefix}.")]
    same_end = [name for name in in_file if rest and name.endswith(f".{rest}")]
    if same_end:
        hint = "; did you mean " + " or ".join(repr(name) for name in same_end) + "?"
    else:
        hint = did_you_mean(path, known)
        if not hint and prefix not in _BY_PREFIX:
            hint = did_you_mean(prefix, _BY_PREFIX)
    return InputError(
        "E_POLICY_UNKNOWN_KNOB",
        f"there is no knob {path!r}{hint}",
        where=path,
        next_step=f"a knob is PREFIX.KEY, with PREFIX one of {', '.join(_BY_PREFIX)}",
    )
