"""Who holds what of a store, in bytes: by state, by holder, and what would go if a holder let go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seg1b.store.retention import Item, Plan, tree_bytes


@dataclass(frozen=True)
class StateUsage:
    """One state's outputs (or `runs`, `leases`): how many and how many bytes are held, and may go."""

    name: str
    held: int
    held_bytes: int
    free: int
    free_bytes: int


@dataclass(frozen=True)
class HolderUsage:
    """One holder: what it reaches, and what nobody else does (that much goes when it lets go)."""

    name: str
    items: int
    reached_bytes: int
    own_bytes: int


@dataclass(frozen=True)
class Usage:
    """A store in bytes. `packs`: certification packs, which are removed by name only; `other`: logs and records."""

    states: tuple[StateUsage, ...]
    holders: tuple[HolderUsage, ...]
    packs: tuple[tuple[str, int], ...]
    live_bytes: int
    collectable_bytes: int
    other_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it, linked files counted wherever they are seen."""
        packs = sum(size for _, size in self.packs)
        return self.live_bytes + self.collectable_bytes + packs + self.other_bytes


def usage(plan: Plan, root: Path) -> Usage:
    """Add a plan up, and look at what no plan lists: packs, logs and records."""
    items = (*plan.live, *plan.collectable)
    names = sorted({_group(item) for item in items})
    holders = sorted({holder for item in plan.live for holder in item.held_by})
    packs = root / "certifications"
    sizes = [(path.name, tree_bytes(path)) for path in sorted(packs.iterdir())] if packs.is_dir() else []
    skipped = {"objects", "runs", "certifications", "leases"}
    other = sum(tree_bytes(path) for path in sorted(root.iterdir()) if path.name not in skipped)
    return Usage(
        tuple(_state(name, [item for item in items if _group(item) == name]) for name in names),
        tuple(_holder(name, [item for item in plan.live if name in item.held_by]) for name in holders),
        tuple(sizes),
        plan.live_bytes,
        plan.collectable_bytes,
        other,
    )


def _group(item: Item) -> str:
    return item.state if item.kind in ("object", "partial") else f"{item.kind}s"


def _state(name: str, items: Iterable[Item]) -> StateUsage:
    held = [item.length_bytes for item in items if item.held_by]
    free = [item.length_bytes for item in items if not item.held_by]
    return StateUsage(name, len(held), sum(held), len(free), sum(free))


def _holder(name: str, items: list[Item]) -> HolderUsage:
    own = sum(item.length_bytes for item in items if item.held_by == (name,))
    return HolderUsage(name, len(items), sum(item.length_bytes for item in items), own)
