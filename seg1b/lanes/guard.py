"""The guard lane: may this catalogue be used at all? Verdicts last in the store, and certify and tune ask here.

A catalogue is refused when its own grade is below B, when a verdict in the store says FAIL, and when the store has a
pinned authority that it does not stand up to. A 1A bundle whose evidence is missing or unsound is below B, and asked
about it the guard says FAIL and keeps that. A user's plain catalogue (`BundleReceipt.is_plain`) owes no 1A evidence:
the guard does not apply to it in a run, and refuses to judge it when asked.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg1b.catalogue.guard import GuardMeasurement, GuardReport, grade, guard_bundle
from seg1b.catalogue.guard_authority import (
    GuardAuthority,
    GuardDecision,
    authority_from,
    authority_of,
    decide,
    read_authority,
)
from seg1b.catalogue.verify import read_runs, verify_bundle
from seg1b.errors import InputError, StoreError
from seg1b.policy.load import Policies, digest
from seg1b.states.s0_gate import BUNDLE_FOLDER, CATALOGUE_STATE
from seg1b.store.store import Store

PINNED = "authority"


@dataclass(frozen=True)
class Judged:
    """A catalogue against an authority. `authority_from`: what the authority was read from, for people."""

    catalogue_digest: str
    report: GuardReport
    authority: GuardAuthority
    decision: GuardDecision
    authority_from: str
    guard_digest: str

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS."""
        return self.decision.verdict == "PASS"

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; as a file it is an authority for later catalogues."""
        report, decision = self.report, self.decision
        return {
            "status": "PASS" if self.passed else "FAIL",
            "checks": dict(decision.checks),
            "metrics": [metric.facts() for metric in report.metrics.values()],
            "catalogue_digest": self.catalogue_digest,
            "grade": report.grade,
            "reason": report.reason,
            "hard_gates": dict(report.hard_gates),
            "b_share": report.b_share,
            "b_plus_share": report.b_plus_share,
            "regressed_b_metrics": list(decision.regressed_b_metrics),
            "regressed_hard_gates": list(decision.regressed_hard_gates),
            "b_plus_without_b": list(report.b_plus_without_b),
            "bands_not_nested": [name for name, metric in report.metrics.items() if not metric.bands.nested],
            "authority": {"from": self.authority_from, "digest": self.authority.digest, "grade": self.authority.grade},
            "guard_policy_digest": self.guard_digest,
        }  # fmt: skip

    def reasons(self) -> list[str]:
        """What failed, in words."""
        return failures(self.decision, self.report, self.authority)


def judge(catalogue: Path, policies: Policies, authority: Path | None, store: Store | None) -> Judged:
    """Judge a bundle against an authority file, another bundle, or the store's pinned authority.

    Raises InputError E_GUARD_NO_EVIDENCE, E_GUARD_NO_AUTHORITY, E_GUARD_AUTHORITY, and those of `verify_bundle`.
    """
    frozen, source = find_authority(authority, policies, store)
    found, report = measured(catalogue, policies)
    if report.status == "not_applicable":
        raise InputError(
            "E_GUARD_NO_EVIDENCE",
            "this is a user's plain catalogue: it carries no 1A evidence (candidate sets, memberships, dispersions)",
            where=str(catalogue),
            next_step="name the 1A bundle itself; a plain catalogue needs no guard to be certified",
        )
    decision = decide(report, policies.guard, frozen)
    return Judged(found, report, frozen, decision, source, digest(policies.guard))


def measured(catalogue: Path, policies: Policies) -> tuple[str, GuardReport]:
    """Digest and report of a bundle's folder; every table is proven before the digest names anything.

    Raises InputError E_GUARD_NO_EVIDENCE for what is no folder, and as `verify_bundle`.
    """
    if not catalogue.is_dir():
        what = "there is no such folder" if not catalogue.exists() else "this is a file without its bundle"
        raise InputError(
            "E_GUARD_NO_EVIDENCE",
            f"{what}: the guard reads a 1A bundle with its evidence",
            where=str(catalogue),
            next_step="name the root folder of a 1A bundle, such as `seg1b catalogue synth --seed 42 --out DIR` writes",
        )
    receipt = verify_bundle(catalogue)
    return receipt.content_sha256_hex, guard_bundle(read_runs(receipt), receipt, policies.guard)


def find_authority(
    authority: Path | None, policies: Policies, store: Store | None
) -> tuple[GuardAuthority, str]:
    """The authority and where it came from; raises InputError E_GUARD_NO_AUTHORITY or E_GUARD_AUTHORITY."""
    if authority is None:
        pinned = None if store is None else pinned_authority(store, policies)
        if pinned is None:
            raise InputError(
                "E_GUARD_NO_AUTHORITY",
                "there is nothing to compare with: no --authority was given and the store has none pinned",
                where="--authority" if store is None else str(store.layout.guards),
                next_step='`--authority FILE`, or pin one: `seg1b guard --authority FILE --pin --approved-by "NAME"`',
            )
        return pinned, "pinned"
    if authority.is_dir():
        return authority_from(measured(authority, policies)[1], str(authority)), authority.name
    return read_authority(authority, policies.guard), authority.name


def pinned_authority(store: Store, policies: Policies) -> GuardAuthority | None:
    """The authority that this store's runs must stand up to. Raises StoreError E_STORE_DAMAGED."""
    record = store.guards.find(PINNED)
    if record is None:
        return None
    where = str(store.layout.guards / f"{PINNED}.json")
    try:
        found = authority_of(record.get("authority"), policies.guard, where)
    except InputError as error:
        raise _damaged_pin(error.message, where) from error
    if found.digest != record.get("digest"):
        raise _damaged_pin("it is not what was pinned", where)
    return found


def _damaged_pin(what: str, where: str) -> StoreError:
    return StoreError(
        "E_STORE_DAMAGED", f"the pinned authority: {what}", where=where,
        next_step='pin it again: `seg1b guard --authority FILE --pin --approved-by "NAME"`',
    )  # fmt: skip


def pin(store: Store, authority: GuardAuthority, source: str, *, approved_by: str) -> None:
    """Make an authority the store's, on somebody's word; the ledger keeps what it was before."""
    with store.exclusive("pinning the guard's authority"):
        before = store.guards.find(PINNED)
        store.guards.write(
            PINNED, {"authority": authority.to_json(), "digest": authority.digest, "from": source}
        )
        store.ledger.note(
            "guard_authority_pinned",
            digest=authority.digest,
            before=None if before is None else before.get("digest"),
            source=source,
            approved_by=approved_by,
        )


def record(store: Store, judged: Judged) -> None:
    """Keep a verdict: one per catalogue and authority, so that a milder authority does not lift a FAIL."""
    with store.exclusive("recording a guard verdict"):
        known = store.guards.find(judged.catalogue_digest) or {}
        verdict = {
            "status": judged.decision.verdict,
            "checks": judged.decision.checks,
            "reasons": judged.reasons(),
            "guard_policy_digest": judged.guard_digest,
        }
        verdicts = {**known.get("verdicts", {}), judged.authority.digest: verdict}
        if verdicts != known.get("verdicts"):
            store.guards.write(
                judged.catalogue_digest, {"catalogue_digest": judged.catalogue_digest, "verdicts": verdicts}
            )
            store.ledger.note(
                "guard_verdict",
                catalogue_digest=judged.catalogue_digest,
                authority=judged.authority.digest,
                status=judged.decision.verdict,
            )


def lift(store: Store, catalogue_digest: str, *, approved_by: str, reason: str) -> int:
    """Take back the verdicts on a catalogue, on somebody's word; returns how many said FAIL.

    Raises InputError E_STORE_UNKNOWN_ID if there is none.
    """
    with store.exclusive("lifting a guard verdict"):
        verdicts = store.guards.read(catalogue_digest).get("verdicts", {})
        store.ledger.note(
            "guard_verdict_lifted",
            catalogue_digest=catalogue_digest,
            verdicts=verdicts,
            approved_by=approved_by,
            reason=reason,
        )
        store.guards.remove(catalogue_digest)
    return sum(entry.get("status") == "FAIL" for entry in verdicts.values())


def require_guard(
    store: Store, policies: Policies, catalogue_digest: str, measurement: GuardMeasurement
) -> GuardReport:
    """Grade a catalogue that a run is about to use, or refuse it. Every lane that places outlets calls this.

    Raises InputError E_GUARD_FAIL: below B, a FAIL in the store, or not up to the store's pinned authority.
    """
    report = grade(measurement, policies.guard)
    if report.grade == "below_B":
        outside = [name for name, metric in report.metrics.items() if not metric.b_pass]
        raise _refused(
            "the 1A guard grades this catalogue below B"
            + (f"; {report.reason}" if report.reason else "")
            + (f"; outside the B band: {', '.join(outside)}" if outside else ""),
            catalogue_digest,
            f"`seg1b catalogue check {_named(store, catalogue_digest)}` prints all 14 metrics with their bands",
        )
    require_no_fail(store, catalogue_digest)
    pinned = None if report.status == "not_applicable" else pinned_authority(store, policies)
    if pinned is not None:
        decision = decide(report, policies.guard, pinned)
        if decision.verdict != "PASS":
            raise _refused(
                "this catalogue falls below the pinned authority: "
                + "; ".join(failures(decision, report, pinned)),
                catalogue_digest,
                f"`seg1b guard {_named(store, catalogue_digest)}` compares metric by metric; change the catalogue, or "
                'pin another authority: `seg1b guard --authority FILE --pin --approved-by "NAME"`',
            )
    return report


def require_no_fail(store: Store, catalogue_digest: str, bundle: Path | None = None) -> None:
    """Refuse a catalogue that a verdict in the store fails, whoever's authority it fell below.

    Takes no measurement: a lane that was brought a `bundle` asks before it seals it. Raises InputError E_GUARD_FAIL.
    """
    verdicts = (store.guards.find(catalogue_digest) or {}).get("verdicts", {})
    for authority, verdict in sorted(verdicts.items()):
        if verdict.get("status") != "PASS":
            reasons = "; ".join(verdict.get("reasons", ())) or "no reason was kept"
            name = _named(store, catalogue_digest, bundle)
            if authority == (store.guards.find(PINNED) or {}).get("digest"):
                again = f"`seg1b guard {name}` judges it again by the pinned authority"
            else:
                again = (
                    f"`seg1b guard {name} --authority FILE` judges it again, FILE being the same authority"
                )
            raise _refused(
                f"an earlier guard verdict on this catalogue is FAIL ({reasons})",
                catalogue_digest,
                f'{again} ({authority[:12]}), or `seg1b guard {name} --lift --approved-by "NAME" --reason "WHY"` takes '
                "the verdict back",
            )


def _named(store: Store, catalogue_digest: str, bundle: Path | None = None) -> str:
    """The root folder of a catalogue's bundle, for a command line: `bundle`, else what the store has sealed.

    A catalogue that a lane synthesised is in no other place.
    """
    if bundle is not None:
        return shlex.quote(str(bundle))
    sealed = store.layout.objects / CATALOGUE_STATE
    for key in sorted(path.name for path in sealed.iterdir()) if sealed.is_dir() else ():
        with suppress(StoreError):  # another catalogue's damage is not what this is about
            if store.manifest(CATALOGUE_STATE, key).facts.get("catalogue_digest") == catalogue_digest:
                return shlex.quote(str(store.layout.object(CATALOGUE_STATE, key) / BUNDLE_FOLDER))
    return "CATALOGUE"


def failures(decision: GuardDecision, report: GuardReport, authority: GuardAuthority) -> list[str]:
    """Every failed check as a sentence; of incomplete evidence, what it lacks."""
    if report.reason is not None:
        return [report.reason]
    metrics = report.metrics
    worse = [
        f"{name} {_number(metrics[name].value)} against {_number(value)}"
        for name, value in authority.concentration.items()
    ]
    held = sum(authority.b_pass.values())
    hard = [name for name, held_gate in report.hard_gates.items() if not held_gate]
    text = {
        "grade_not_below_B": f"its grade is {report.grade}"
        + (
            f" (hard gates lost: {', '.join(hard)})"
            if hard
            else f" ({report.b_share:.0%} of metrics inside B)"
        ),
        "hard_gates_not_regressed": f"hard gates lost: {_listed(decision.regressed_hard_gates)}",
        "authority_B_pass_metrics_not_regressed": f"left their B band: {_listed(decision.regressed_b_metrics)}",
        "B_pass_count_not_below_authority": f"{report.b_count} metrics inside B, the authority has {held}",
        "concentration_not_materially_worse_than_authority": f"more concentrated: {'; '.join(worse)}",
    }
    return [text[name] for name, passed in decision.checks.items() if not passed]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _number(value: float | None) -> str:
    return "not computable" if value is None else f"{value:.4g}"


def _refused(message: str, catalogue_digest: str, next_step: str) -> InputError:
    return InputError(
        "E_GUARD_FAIL", message, where=f"catalogue {catalogue_digest[:12]}", next_step=next_step
    )
