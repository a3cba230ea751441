"""The frozen authority of the 1A guard, and the decision against it (engine-contracts 13.2).

An authority is a file that `seg1b guard --json` wrote, the engine's `segment1a_p5_certification.json`, or one of its
guard artifacts. The engine's file mixes three runs (D-74): the concentration limits come from
`surface_metrics.p1_representative` where it has them, else from the metrics' own values. What is missing is an error:
a rule without its reference would hold by default. So is what could loosen a rule unseen: a file that itself says FAIL
or below B, two rows of one metric, and a value that the metric cannot have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seg1b.catalogue.guard import CONCENTRATION, HARD_GATES, GuardReport, hard_gates
from seg1b.errors import InputError
from seg1b.policy.guard import GUARD_METRICS, FreezeGuardPolicy, holds
from seg1b.store.digest import canonical_json, sha256_bytes

CHECKS = (
    "grade_not_below_B",
    "hard_gates_not_regressed",
    "authority_B_pass_metrics_not_regressed",
    "B_pass_count_not_below_authority",
    "concentration_not_materially_worse_than_authority",
)
TRUTHS = ("identity_semantics_no_unexplained_duplicate_anomalies", "required_outputs_present")
"""Metrics that are true or false, 1 or 0; the engine writes either."""

_SHARE, _NUMBER = (0.0, 1.0), (0.0, math.inf)
_RANGES: Mapping[str, tuple[float, float]] = {
    "single_site_share": _SHARE,
    "median_outlets_per_merchant": (1.0, math.inf),
    "top10_outlet_share": _SHARE,
    "gini_outlets_per_merchant": _SHARE,
    "home_legal_mismatch_rate": _SHARE,
    "size_gradient_pp_top_minus_bottom": (-100.0, 100.0),
    "multi_country_legal_spread": _SHARE,
    "candidate_count_median": _NUMBER,
    "candidate_membership_correlation": (-1.0, 1.0),
    "realization_ratio_median": _NUMBER,
    "phi_cv": _NUMBER,
    "phi_p95_p05_ratio": (1.0, math.inf),
}
_ROUNDING, _LARGEST = 1e-9, 1e300
_FLAGS = ("b_pass", "pass_b", "b")
_READ = ("value", *_FLAGS)
_TABLES = ("metrics", "target_band_checks", "target_band_check_map", "band_checks")
_NEXT = "take a file that `seg1b guard --json` printed for the frozen catalogue, or the engine's own certification"


@dataclass(frozen=True)
class GuardAuthority:
    """What the frozen catalogue was: which metrics were inside B, which hard gates held, how concentrated it was."""

    b_pass: dict[str, bool]
    hard_gates: dict[str, bool]
    concentration: dict[str, float]
    grade: str | None

    @property
    def digest(self) -> str:
        """Digest (hex64) of what it says, whatever file said it."""
        return sha256_bytes(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `authority_of` reads them back."""
        return {
            "metrics": [
                {"metric": name, "value": self.concentration.get(name), "b_pass": passed}
                for name, passed in self.b_pass.items()
            ],
            "hard_gates": self.hard_gates,
            "grade": self.grade,
        }


@dataclass(frozen=True)
class GuardDecision:
    """`PASS` only when every check holds; `not_applicable` when the candidate has no evidence."""

    verdict: Literal["PASS", "FAIL", "not_applicable"]
    checks: dict[str, bool]
    regressed_b_metrics: tuple[str, ...]
    regressed_hard_gates: tuple[str, ...]


def decide(
    candidate: GuardReport, policy: FreezeGuardPolicy, authority: GuardAuthority | None = None
) -> GuardDecision:
    """The five checks; without an authority only the candidate's own grade counts.

    Without its evidence nothing can be compared: no check holds then, as when an input of the engine's guard is
    missing.
    """
    if candidate.status == "not_applicable":
        return GuardDecision("not_applicable", {}, (), ())
    checks = {CHECKS[0]: candidate.eligible_b}
    metrics: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    if authority is not None:
        limit = policy.authority.concentration_max_regression + policy.authority.tolerance_abs
        gates = tuple(g for g, held in authority.hard_gates.items() if held and not candidate.hard_gates[g])
        inside = candidate.metrics
        metrics = tuple(name for name, held in authority.b_pass.items() if held and not inside[name].b_pass)
        found = (
            not gates,
            not metrics,
            candidate.b_count >= sum(authority.b_pass.values()),
            all(
                _not_worse(candidate.metrics[n].value, authority.concentration[n], limit)
                for n in CONCENTRATION
            ),
        )
        checks |= dict(zip(CHECKS[1:], found, strict=True))
    if not candidate.complete:
        checks = dict.fromkeys(checks, False)
    return GuardDecision("PASS" if all(checks.values()) else "FAIL", checks, metrics, gates)


def _not_worse(value: float | None, reference: float, allowance: float) -> bool:
    return value is not None and value <= reference + allowance


def authority_from(report: GuardReport, where: str) -> GuardAuthority:
    """A measured catalogue as the authority.

    Raises InputError E_GUARD_AUTHORITY for one that is below B or has no evidence.
    """
    if report.status == "not_applicable":
        raise _broken("this catalogue has no 1A evidence, so it can freeze nothing", where)
    if report.grade == "below_B":
        raise _broken(f"this catalogue is below B, so it can freeze nothing{_because(report.reason)}", where)
    values = {name: report.metrics[name].value for name in CONCENTRATION}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise _broken(f"{', '.join(missing)} cannot be computed", where)
    return GuardAuthority(
        {name: metric.b_pass for name, metric in report.metrics.items()},
        dict(report.hard_gates),
        {name: value for name, value in values.items() if value is not None},
        report.grade,
    )


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def read_authority(path: Path, policy: FreezeGuardPolicy) -> GuardAuthority:
    """Read an authority file. Raises InputError E_GUARD_AUTHORITY for a missing, damaged or incomplete one."""
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except (OSError, ValueError, RecursionError) as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise _broken(f"the authority cannot be read: {what}", str(path)) from error
    return authority_of(document, policy, str(path))


def authority_of(document: Any, policy: FreezeGuardPolicy, where: str) -> GuardAuthority:
    """An authority from a JSON document. Raises InputError E_GUARD_AUTHORITY naming what is missing."""
    if not isinstance(document, Mapping):
        raise _broken("the authority is no JSON object", where)
    _require_good(document, where)
    if isinstance(document.get("candidate"), Mapping) and "hard_gates" in document["candidate"]:
        document = document["candidate"]  # a guard artifact: what it judged is the authority
        _require_good(document, where)
    rows = _rows(document, where)
    values = {name: _number(row, name, where) for name, row in rows.items()}
    stated = {name: _stated(row, name, where) for name, row in rows.items()}
    missing = [n for n in GUARD_METRICS if n not in rows or (values[n] is None and stated[n] is None)]
    if missing:
        raise _broken(f"the authority says nothing about {', '.join(missing)}", where)
    passed: dict[str, bool] = {}
    for name in GUARD_METRICS:
        inside = holds(policy.bands[name].b, values[name], policy.authority.tolerance_abs)
        said = stated[name]
        passed[name] = inside if said is None else said
    concentration: dict[str, float] = {
        name: _representative(document, name, values[name], where) for name in CONCENTRATION
    }
    grade = document.get("grade", document.get("grade_decision"))
    return GuardAuthority(
        passed,
        _gates(document, values, policy, where),
        concentration,
        grade if isinstance(grade, str) else None,
    )


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose last value of a name would otherwise hide the others."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _require_good(document: Mapping[str, Any], where: str) -> None:
    """What failed, or is below B, freezes nothing."""
    for field in ("status", "verdict", "grade", "grade_decision"):
        said = document.get(field)
        if said is not None and not isinstance(said, str):
            raise _broken(f"{field} is no text: {said!r}", where)
        word = (said or "").strip().lower().replace(" ", "_")
        if word.startswith("fail") or "below_b" in word:
            raise _broken(f"{field} says {said!r}: what failed, or is below B, freezes nothing", where)


def _rows(document: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Metric -> what is said of it, from a list of rows or a mapping, joined over the tables that a file may have."""
    found: dict[str, dict[str, Any]] = {}
    for key in _TABLES:
        table = document.get(key)
        if isinstance(table, Mapping):
            table = [_named(name, entry) for name, entry in table.items()]
        listed: set[str] = set()
        for row in table if isinstance(table, list) else []:
            name = row.get("metric", row.get("name")) if isinstance(row, Mapping) else None
            if name not in GUARD_METRICS:
                continue
            if name in listed:
                raise _broken(f"{key} has more than one row of {name}", where)
            listed.add(name)
            _join(found.setdefault(name, {}), row, f"{key}, {name}", where)
    if not found:
        raise _broken("the authority lists no metric of the guard", where)
    return found


def _join(entry: dict[str, Any], row: Mapping[str, Any], place: str, where: str) -> None:
    """Add what a row says, by field in lower case; rows of several tables may repeat each other, not contradict."""
    for field, value in row.items():
        name = str(field).lower()
        known = entry.setdefault(name, value)
        if name in _READ and known is not value and known != value:
            raise _broken(f"{place}: {name} is {value!r} here and {known!r} elsewhere", where)


def _named(name: str, entry: Any) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        return {**entry, "metric": name}
    return {"metric": name, "value": entry}


def _stated(row: Mapping[str, Any], name: str, where: str) -> bool | None:
    """Whether the metric was inside B, if the row says so."""
    for field in ("b_pass", "pass_b"):
        if not isinstance(row.get(field), bool | None):
            raise _broken(f"{field} of {name} is no truth: {row[field]!r}", where)
    stated = {row[field] for field in _FLAGS if isinstance(row.get(field), bool)}
    if len(stated) > 1:
        raise _broken(f"the row of {name} says both that it was inside B and that it was not", where)
    return bool(stated.pop()) if stated else None


def _number(row: Mapping[str, Any], name: str, where: str) -> float | None:
    """The value of a row, which the metric can have; `name` may have a prefix that ends with a dot."""
    value = row.get("value")
    if value is None:
        return None
    metric = name.rpartition(".")[2]
    if not isinstance(value, int | float) or (isinstance(value, bool) and metric not in TRUTHS):
        raise _broken(f"the value of {name} is no number: {value!r}", where)
    low, high = _RANGES.get(metric, _SHARE)
    possible = low - _ROUNDING <= value <= min(high + _ROUNDING, _LARGEST)
    if not possible or (metric in TRUTHS and value not in (0, 1)):
        raise _broken(f"the value of {name} cannot be {value!r}: it is {_range(metric)}", where)
    return float(value)


def _range(metric: str) -> str:
    if metric in TRUTHS:
        return "true or false"
    low, high = _RANGES[metric]
    return f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def _representative(document: Mapping[str, Any], name: str, value: float | None, where: str) -> float:
    surface = document.get("surface_metrics")
    representative = surface.get("p1_representative") if isinstance(surface, Mapping) else None
    if isinstance(representative, Mapping) and name in representative:
        value = _number({"value": representative[name]}, f"p1_representative.{name}", where)
    if value is None:
        raise _broken(f"the authority gives no number for {name}", where)
    return value


def _gates(
    document: Mapping[str, Any], values: Mapping[str, float | None], policy: FreezeGuardPolicy, where: str
) -> dict[str, bool]:
    """Stated hard gates; a file that states none is judged by its values, which must then all be there."""
    stated = document.get("hard_gates")
    if isinstance(stated, Mapping):
        missing = [name for name in HARD_GATES if not isinstance(stated.get(name), bool)]
        if missing:
            raise _broken(f"the authority does not say whether {', '.join(missing)} held", where)
        return {name: bool(stated[name]) for name in HARD_GATES}
    needed = ("single_site_share", "candidate_count_median", "phi_cv", "phi_p95_p05_ratio",
              "required_outputs_present")  # fmt: skip
    missing = [name for name in needed if values.get(name) is None]
    if missing:
        raise _broken(f"the authority states no hard gates and no value of {', '.join(missing)}", where)
    return hard_gates(values, policy)


def _broken(message: str, where: str) -> InputError:
    return InputError("E_GUARD_AUTHORITY", message, where=where, next_step=_NEXT)
