"""What can be screened: a catalogue (a file or a 1A bundle), or a set of policies, whose catalogue is synthesised.

A catalogue is judged by the policies of the session. Policies are judged by their own: their denylist, their market
prior and their gates, as their own certification would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError
from seg1b.lanes.country_facts import CountryFacts, shares_key, shares_of
from seg1b.policy.load import POLICY_FILES, Policies, load_policies, set_values
from seg1b.policy.yaml_reader import read_yaml
from seg1b.store.store import Store
from seg1b.world.content import World

Integers = NDArray[np.int64]


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
    known: dict[str, CountryShares] = {}
    return [load_candidate(path, policies, world, store, seed=seed, known=known) for path in paths]


def load_candidate(
    path: Path,
    policies: Policies,
    world: World,
    store: Store | None = None,
    *,
    seed: int,
    known: dict[str, CountryShares] | None = None,
) -> Candidate:
    """A catalogue file, a 1A bundle's folder, a folder of policies, or one policy file.

    Policies stand for the catalogue that `seed` synthesises from them; a single policy file is taken together with
    `policies`. `known`: country shares by the key of S2s, looked up and added to. Raises InputError of the loaders,
    or E_SCREEN_FILE.
    """
    iso = world.countries.iso
    if path.is_dir():
        if (path / "data" / "layer1").is_dir():
            from seg1b.catalogue.verify import read_catalogue, verify_bundle

            return Candidate(str(path), "bundle", read_catalogue(verify_bundle(path), iso))
        if any((path / file.path).exists() for file in POLICY_FILES):
            return policy_candidate(str(path), load_policies(path), world, store, seed, known)
        raise InputError(
            "E_SCREEN_FILE",
            "this folder is neither a 1A bundle (data/layer1/1A) nor a folder of policies (policy/*.yaml)",
            where=str(path),
            next_step="name a catalogue file, a bundle's root folder or a folder of policies",
        )
    if path.suffix in {".yaml", ".yml"}:
        return policy_candidate(str(path), _with_file(policies, path), world, store, seed, known)
    from seg1b.catalogue.user import load_user_catalogue

    loaded = load_user_catalogue(path, iso)
    return Candidate(str(path), loaded.layout, loaded.catalogue)


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


def policy_candidate(
    name: str,
    policies: Policies,
    world: World,
    store: Store | None,
    seed: int,
    known: dict[str, CountryShares] | None = None,
) -> Candidate:
    """What `seed` would synthesise under `policies`: the quotas now, the catalogue when it is asked for.

    `known`: as in `load_candidate`.
    """
    from seg1b.catalogue.synthesise import planned_quotas, synthesise

    shares = _known_shares(policies, world, store, {} if known is None else known)
    quotas, merchants = planned_quotas(shares, policies.synthesis, seed)
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


def _known_shares(
    policies: Policies, world: World, store: Store | None, known: dict[str, CountryShares]
) -> CountryShares:
    key = shares_key(policies, world)
    if key not in known:
        known[key] = shares_of(policies, world, store)
    return known[key]
