"""Two sets of verdicts side by side: better, worse, same, or a veto; and why a state's key changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from seg1b.policy.load import POLICY_FILES, Policies, digest
from seg1b.scoring.gates import CounterRow, GateReport, GateRow, counter_key
from seg1b.states.plan import ATTRIBUTION, BY_NAME, PARAMETERS, STATES

Verdict = Literal["better", "worse", "same", "veto"]
Reach = Literal["", "below_B", "B", "B+"]
_ORDER: tuple[Reach, ...] = ("below_B", "B", "B+")


@dataclass(frozen=True)
class GateChange:
    """One gate before and after. `veto`: what held for B does not hold any more, by either side's thresholds.

    `reach_before` and `reach`: the best grade that each side meets here, under its own thresholds ("" if there was no
    such gate). A grade won or lost decides the verdict, else the margin does. `held_to`: the reference's own threshold
    for B, where the veto is that it is missed, though a milder one of the candidate's is met.
    A counter-metric has one band for both grades: `b` and `b_plus` are its nearer bound, and `op` says which side of it
    passes; `band` has both bounds. Margins are to B's threshold, positive where it is met.
    """

    name: str
    before: float | None
    after: float | None
    op: str
    b: float
    b_plus: float
    verdict: Verdict
    reach_before: Reach
    reach: Reach
    margin_before: float | None = None
    margin: float | None = None
    band: tuple[float | None, float | None] | None = None
    held_to: float | None = None

    @property
    def lost(self) -> bool:
        """Whether it is a veto."""
        return self.verdict == "veto"


def compare(
    before: GateReport, after: GateReport, *, neighbours_scale: float = 1.0
) -> tuple[GateChange, ...]:
    """Every gate and counter-metric of two reports, in the order of the second; then what only the first has.

    A reference holds a candidate to its own thresholds as well: milder ones lose nothing by themselves, and excuse
    nothing. `neighbours_scale`: by how much the reference's lower bound of the neighbours' median is to be scaled for
    the candidate's number of sites.
    """
    gates = {row.name: row for row in before.gates}
    counters = {counter_key(row.name, row.surface): row for row in before.counters}
    changes = [_gate(row, gates.pop(row.name, None)) for row in after.gates]
    for row in after.counters:
        old = counters.pop(counter_key(row.name, row.surface), None)
        changes.append(_counter(row, old, neighbours_scale if row.name == "nn_p50_km" else 1.0))
    vanished = [replace(row, observed=None, pass_b=False, pass_b_plus=False) for row in gates.values()]
    changes += [_gate(row, gates[row.name]) for row in vanished]
    changes += [_counter(replace(row, observed=None, passed=False), row, 1.0) for row in counters.values()]
    return tuple(changes)


def lost_gates(
    reference: GateReport, candidate: GateReport, *, neighbours_scale: float = 1.0
) -> tuple[str, ...]:
    """Names of what holds for B in the reference and not in the candidate; as `compare`."""
    changes = compare(reference, candidate, neighbours_scale=neighbours_scale)
    return tuple(change.name for change in changes if change.lost)


def vetoed_by(changes: Sequence[GateChange], lost: Collection[str]) -> tuple[GateChange, ...]:
    """The changes, with a veto for each that is named: lost to something else than the reference."""
    return tuple(replace(one, verdict="veto") if one.name in lost else one for one in changes)


def _gate(row: GateRow, old: GateRow | None) -> GateChange:
    before = None if old is None else old.observed
    margin_before = None
    if before is not None:
        margin_before = row.b - before if row.op == "<=" else before - row.b
    reached, reaches = _reach(old), _reach(row)
    held_to = None
    if old is not None and old.pass_b and row.pass_b and row.observed is not None:
        missed = row.observed > old.b if old.op == "<=" else row.observed < old.b
        held_to = old.b if missed else None
    verdict = _verdict(reached, reaches, before, row.observed, margin_before, row.margin_b, held_to)
    return GateChange(
        row.name, before, row.observed, row.op, row.b, row.b_plus, verdict, reached, reaches, margin_before,
        row.margin_b, held_to=held_to,
    )  # fmt: skip


def _reach(row: GateRow | CounterRow | None) -> Reach:
    """The best grade that a row allows; a counter-metric has one band for both."""
    if row is None:
        return ""
    if isinstance(row, CounterRow):
        return "B+" if row.passed else "below_B"
    return "B+" if row.pass_b and row.pass_b_plus else "B" if row.pass_b else "below_B"


def _counter(row: CounterRow, old: CounterRow | None, low_scale: float) -> GateChange:
    before = None if old is None else old.observed
    margin_before, margin = _band_margin(row, before), _band_margin(row, row.observed)
    reached, reaches = _reach(old), _reach(row)
    held_to = None
    if old is not None and old.passed and row.passed and row.observed is not None:
        if old.min is not None and row.observed < old.min * low_scale:
            held_to = old.min * low_scale
        elif old.max is not None and row.observed > old.max:
            held_to = old.max
    verdict = _verdict(reached, reaches, before, row.observed, margin_before, margin, held_to)
    value = row.observed if row.observed is not None else before
    low, high = row.min, row.max
    near_low = high is None or (low is not None and value is not None and value - low < high - value)
    op, bound = (">=", low) if near_low else ("<=", high)
    assert bound is not None  # a band has at least one end
    name = counter_key(row.name, row.surface)
    return GateChange(
        name, before, row.observed, op, bound, bound, verdict, reached, reaches, margin_before, margin, (low, high),
        held_to,
    )  # fmt: skip


def _band_margin(row: CounterRow, value: float | None) -> float | None:
    if value is None:
        return None
    return min(
        float("inf") if row.min is None else value - row.min,
        float("inf") if row.max is None else row.max - value,
    )


def _verdict(
    reached: Reach, reaches: Reach, before: float | None, after: float | None,
    margin_before: float | None, margin: float | None, held_to: float | None,
) -> Verdict:  # fmt: skip
    if reached in ("B", "B+") and (reaches == "below_B" or held_to is not None):
        return "veto"
    if reached and reached != reaches and before is not None:
        return "better" if _ORDER.index(reaches) > _ORDER.index(reached) else "worse"
    if before is None or after is None or before == after or margin is None or margin_before is None:
        return "same"
    return "better" if margin > margin_before else "worse" if margin < margin_before else "same"


@dataclass(frozen=True)
class Rerun:
    """One state whose key changed, and what of: its own knobs, its inputs, or what comes from outside."""

    state: str
    title: str
    key_before: str
    key_after: str
    because: tuple[str, ...]


def reruns(
    before: Mapping[str, str],
    after: Mapping[str, str],
    policies: Policies,
    digests_before: Mapping[str, str],
    changed_knobs: Mapping[str, Sequence[Any]],
) -> tuple[Rerun, ...]:
    """The states whose keys differ, in the order of the chain.

    `digests_before`: digest by policy file of the reference; `changed_knobs`: (before, after) by path, as far as known.
    """
    found = []
    for state in STATES:
        if state.name not in after or before.get(state.name) == after[state.name]:
            continue
        because = [f"its input {name}" for name in state.inputs if before.get(name) != after.get(name)]
        if state.policy is not None:
            block = state.policy(policies)
            file = next(file for file in POLICY_FILES if isinstance(block, file.model))
            if digests_before.get(file.path) != digest(block):
                own = [
                    f"{name} {old} -> {new}" for name, (old, new) in changed_knobs.items()
                    if name.split(".")[0] == file.prefix
                ]  # fmt: skip
                because = [*(own or [f"policy {file.path}"]), *because]
        if not because:
            because = [_outside(state.name)]
        old_key = before.get(state.name, "")
        found.append(Rerun(state.name, state.title, old_key, after[state.name], tuple(because)))
    return tuple(found)


def _outside(name: str) -> str:
    said = {
        "catalogue": "another catalogue",
        "world": "another world",
        ATTRIBUTION: "other attributions",
        PARAMETERS: "the hash of all policies, which its bundle states",
    }
    return " or ".join(said[external] for external in BY_NAME[name].externals) or "the code's revision"


def changed_knobs(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(before, after) of every knob that differs; nothing where the reference's knobs are not known."""
    if before is None:
        return {}
    return {
        name: (before.get(name), value)
        for name, value in after.items()
        if name in before and before[name] != value
    }
