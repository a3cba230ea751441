"""Who holds what of a store, in bytes: by state, by holder, and what would go if a holder let go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seg1b.store.layout import Layout
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
class Beside:
    """What no plan lists, in bytes.

    `packs`: certification packs, which are removed by name only; `other`: logs and records; `temporary`: what running
    commands write, or dead ones left, which goes by itself.
    """

    packs: tuple[tuple[str, int], ...]
    other_bytes: int
    temporary_bytes: int

    @property
    def packs_bytes(self) -> int:
        """All packs."""
        return sum(size for _, size in self.packs)

    @property
    def kept_bytes(self) -> int:
        """What stays whatever is pruned, so that the cap counts it."""
        return self.packs_bytes + self.other_bytes


@dataclass(frozen=True)
class Usage:
    """A store in bytes."""

    states: tuple[StateUsage, ...]
    holders: tuple[HolderUsage, ...]
    beside: Beside
    live_bytes: int
    collectable_bytes: int

    @property
    def kept_bytes(self) -> int:
        """What is left when everything is pruned that may be; what `live_bytes_max` of the retention policy caps."""
        return self.live_bytes + self.beside.kept_bytes

    @property
    def total_bytes(self) -> int:
        """All of it, linked files counted wherever they are seen."""
        return self.kept_bytes + self.collectable_bytes + self.beside.temporary_bytes


def usage(plan: Plan, root: Path) -> Usage:
    """Add a plan up, and look at what no plan lists."""
    items = (*plan.live, *plan.collectable)
    names = sorted({_group(item) for item in items})
    holders = sorted({holder for item in plan.live for holder in item.held_by})
    return Usage(
        tuple(_state(name, [item for item in items if _group(item) == name]) for name in names),
        tuple(_holder(name, [item for item in plan.live if name in item.held_by]) for name in holders),
        beside(root),
        plan.live_bytes,
        plan.collectable_bytes,
    )


def beside(root: Path) -> Beside:
    """What a store has besides outputs, receipts and leases."""
    layout = Layout(root)
    packs = sorted(layout.certifications.iterdir()) if layout.certifications.is_dir() else []
    skipped = {layout.objects, layout.runs, layout.leases, layout.certifications, layout.staging}
    return Beside(
        tuple((path.name, tree_bytes(path)) for path in packs),
        sum(tree_bytes(path) for path in sorted(root.iterdir()) if path not in skipped),
        tree_bytes(layout.staging),
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
