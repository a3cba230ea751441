"""Certifications are kept until somebody removes one by name; pruning may then collect what it alone held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from seg1b.errors import InputError, StoreError
from seg1b.lanes.phase_locks import certifies, locked
from seg1b.store.retention import Plan
from seg1b.store.roots import read_leases
from seg1b.store.store import Store
from seg1b.store.usage import usage


@dataclass(frozen=True)
class Removal:
    """A certification that goes: its pack, and what pruning may collect then. `grade` is None if unreadable."""

    cert_id: str
    grade: str | None
    seeds: tuple[int, ...]
    pack_bytes: int
    held_bytes: int
    removed: bool


def remove_certification(store: Store, text: str, *, dry_run: bool = True) -> Removal:
    """Remove a certification's pack and say so in the ledger; by default only look at what would go.

    To remove takes the full id. Raises InputError E_STORE_UNKNOWN_ID; E_STORE_DRIVEN while a command runs that makes
    or holds something; E_CERTIFICATION_HELD if a pointer or a locked phase rests on it. Then nothing has changed.
    """
    if dry_run:
        return _looked_at(store, text)
    with store.sole_driver("remove a certification"), store.exclusive("removing a certification"):
        store.certifications.require_full_id(text)
        found = _looked_at(store, text)
        store.ledger.note(
            "certification_removed", cert_id=found.cert_id, grade=found.grade, seeds=found.seeds
        )
        store.certifications.remove(found.cert_id)
    return replace(found, removed=True)


def _looked_at(store: Store, text: str) -> Removal:
    cert_id = store.certifications.path(text).name
    plan = store.retention.plan()
    _require_idle(store, plan)
    document = _certificate(store, cert_id)
    holder = f"certification {cert_id[:12]}"
    rests = _resting(store, plan, document, holder)
    if rests:
        raise InputError(
            "E_CERTIFICATION_HELD", f"{', '.join(rests)} rests on {holder}",
            where=str(store.layout.certifications / cert_id),
            next_step="point to another run (`seg1b promote RUN`, `seg1b baseline pin RUN`, `seg1b wave keep`), or "
            "`seg1b reopen PHASE`",
        )  # fmt: skip
    used = usage(plan, store.root)
    return Removal(
        cert_id,
        document.get("grade"),
        tuple(int(entry["seed"]) for entry in document.get("seeds", ())),
        dict(used.beside.packs)[cert_id],
        sum(row.own_bytes for row in used.holders if row.name == holder),
        removed=False,
    )


def _certificate(store: Store, cert_id: str) -> dict[str, Any]:
    """What the certificate says; nothing, if it cannot be read: a damaged pack may go as well."""
    try:
        return dict(store.certifications.read_json(cert_id, "certificate.json"))
    except StoreError:
        return {}


def _require_idle(store: Store, plan: Plan) -> None:
    beating = {item.name for item in plan.live if item.kind == "lease"}
    for lease in read_leases(store.layout):
        if lease.lease_id in beating:
            owner = lease.owner
            raise InputError(
                "E_STORE_DRIVEN",
                f"`{owner.get('purpose', '?')}` is running on this store (process {owner.get('pid', '?')} on "
                f"{owner.get('host', '?')})",
                where=str(store.layout.leases / f"{lease.lease_id}.json"),
                next_step=f"wait for it to finish; if it was killed, its claim ends after {lease.ttl_s:g} s",
            )


def _resting(store: Store, plan: Plan, document: dict[str, Any], holder: str) -> list[str]:
    """Pointers and locks that name a run of the certification, and P5 if it was locked by virtue of it."""
    shared = [item.held_by for item in plan.live if item.kind == "run" and holder in item.held_by]
    rests = {name for held_by in shared for name in held_by if name.startswith(("pointer ", "lock "))}
    final = locked(store).get("P5")
    if final is not None and document and certifies(document, store.receipts.load(final["run_id"])):
        rests.add("lock p5")
    return sorted(rests)
