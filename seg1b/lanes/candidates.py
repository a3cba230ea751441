"""What can be screened: a catalogue (a file or a 1A bundle), or a set of policies, whose catalogue is synthesised.

A catalogue is judged by the policies of the session. Policies are judged by their own: their denylist, their market
prior and their gates, as their own certification would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError
from seg1b.forks import share_out
from seg1b.lanes.country_facts import CountryFacts, are_packaged, shares_key, shares_of
from seg1b.policy.load import POLICY_FILES, Policies, load_policies, set_values
from seg1b.policy.yaml_reader import read_yaml
from seg1b.world.content import World

if TYPE_CHECKING:
    from seg1b.store.store import Store

Integers = NDArray[np.int64]
_POLICY_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class Candidate:
    """Something to be screened. `kind`: `outlets`, `counts`, `bundle` or `policies`.

    Policies know how many outlets every country will have (`quotas` int64[C], of `merchants`) long before who has
    them: `make` synthesises the catalogue when it is needed. `policies`, `facts` and `shares` are their own; None
    for a catalogue, which the session's policies judge.
    """

    name: str
    kind: str
    catalogue: OutletCatalogue | None
    quotas: Integers | None = None
    merchants: int = 0
    make: Callable[[], OutletCatalogue] | None = None
    policies: Policies | None = None
    facts: CountryFacts | None = None
    shares: CountryShares | None = None

    def whole(self) -> OutletCatalogue:
        """The catalogue, synthesised now if need be."""
        if self.catalogue is not None:
            return self.catalogue
        assert self.make is not None
        return self.make()

    def judged_with(self, policies: Policies, facts: CountryFacts) -> tuple[Policies, CountryFacts]:
        """Its own policies and facts, else those of the session, which are given."""
        return self.policies or policies, self.facts or facts


def load_candidates(
    paths: Sequence[Path], policies: Policies, world: World, store: Store | None = None, *, seed: int
) -> list[Candidate]:
    """As `load_candidate`, each; policies with the same country shares have them projected once."""
    own = {path: found for path in paths if (found := _policies_at(path, policies)) is not None}
    shares = dict(zip(own, _projected(list(own.values()), world, store), strict=True))
    planned = _planned([(shares[path], own[path]) for path in own], seed)
    plans = dict(zip(own, planned, strict=True))
    return [
        _of_policies(str(path), own[path], world, seed, shares[path], plans[path])
        if path in own
        else _catalogue_candidate(path, world)
        for path in paths
    ]


def load_candidate(
    path: Path, policies: Policies, world: World, store: Store | None = None, *, seed: int
) -> Candidate:
    """A catalogue file, a 1A bundle's folder, a folder of policies, or one policy file.

    Policies stand for the catalogue that `seed` synthesises from them; a single policy file is taken together with
    `policies`. Raises InputError of the loaders, or E_SCREEN_FILE.
    """
    return load_candidates([path], policies, world, store, seed=seed)[0]


def store_helps(paths: Sequence[Path], policies: Policies, world: World) -> bool:
    """Whether a store could spare work: for candidates that are policies, and for a world without packaged facts."""
    return not are_packaged(world, policies) or any(
        path.suffix in _POLICY_SUFFIXES or (path.is_dir() and not _is_bundle(path)) for path in paths
    )


def _policies_at(path: Path, policies: Policies) -> Policies | None:
    """What a folder of policies or a policy file says; None for anything else, but a folder must be one or a bundle."""
    if path.is_dir():
        if _is_bundle(path):
            return None
        if any((path / file.path).exists() for file in POLICY_FILES):
            return load_policies(path)
        raise InputError(
            "E_SCREEN_FILE",
            "this folder is neither a 1A bundle (data/layer1/1A) nor a folder of policies (policy/*.yaml)",
            where=str(path),
            next_step="name a catalogue file, a bundle's root folder or a folder of policies",
        )
    return _with_file(policies, path) if path.suffix in _POLICY_SUFFIXES else None


def _is_bundle(path: Path) -> bool:
    return (path / "data" / "layer1").is_dir()


def _catalogue_candidate(path: Path, world: World) -> Candidate:
    iso = world.countries.iso
    if _is_bundle(path):
        from seg1b.catalogue.verify import read_catalogue, verify_bundle

        return Candidate(str(path), "bundle", read_catalogue(verify_bundle(path), iso))
    from seg1b.catalogue.user import load_user_catalogue

    loaded = load_user_catalogue(path, iso)
    return Candidate(str(path), loaded.layout, loaded.catalogue)


def _projected(candidates: Sequence[Policies], world: World, store: Store | None) -> list[CountryShares]:
    """Country shares of each of these policies."""
    keys = [shares_key(policies, world) for policies in candidates]
    by_key = dict(zip(keys, candidates, strict=True))

    def project(key: str) -> CountryShares:
        return shares_of(by_key[key], world, store)

    distinct = list(by_key)
    first = [project(key) for key in distinct[:1]]  # loads what copies of the process need
    known = dict(zip(distinct, [*first, *share_out(project, distinct[1:])], strict=True))
    return [known[key] for key in keys]


def _with_file(policies: Policies, path: Path) -> Policies:
    """The policies with one file replaced, recognised by its name."""
    named = [file for file in POLICY_FILES if Path(file.path).name == path.name]
    if not named:
        raise InputError(
            "E_SCREEN_FILE",
            f"{path.name} is not the name of a policy file",
            where=str(path),
            next_step="use the file's own name: " + ", ".join(Path(file.path).name for file in POLICY_FILES),
        )
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(
            "E_POLICY_VALUE", "a policy file holds keys and values", where=str(path),
            next_step="`seg1b config write DIR` writes files to start from",
        )  # fmt: skip
    return set_values(policies, {f"{named[0].prefix}.{key}": value for key, value in tree.items()})


def _planned(candidates: Sequence[tuple[CountryShares, Policies]], seed: int) -> list[tuple[Integers, int]]:
    """`planned_quotas` of each of these shares and policies."""
    if not candidates:
        return []
    from seg1b.catalogue.synthesise import planned_quotas

    def plan(one: tuple[CountryShares, Policies]) -> tuple[Integers, int]:
        return planned_quotas(one[0], one[1].synthesis, seed)

    return [plan(candidates[0]), *share_out(plan, candidates[1:])]  # copies know what the first had to draw


def policy_candidate(
    name: str, policies: Policies, world: World, store: Store | None, seed: int
) -> Candidate:
    """What `seed` would synthesise under `policies`: the quotas now, the catalogue when it is asked for."""
    shares = shares_of(policies, world, store)
    (planned,) = _planned([(shares, policies)], seed)
    return _of_policies(name, policies, world, seed, shares, planned)


def _of_policies(
    name: str,
    policies: Policies,
    world: World,
    seed: int,
    shares: CountryShares,
    planned: tuple[Integers, int],
) -> Candidate:
    from seg1b.catalogue.synthesise import synthesise

    quotas, merchants = planned
    return Candidate(
        name,
        "policies",
        None,
        quotas,
        merchants,
        lambda: synthesise(world.countries, shares, policies.synthesis, seed).catalogue,
        policies,
        CountryFacts(world.countries, shares.southern_share, shares.prior, shares.market_size),
        shares,
    )
