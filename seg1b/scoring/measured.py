"""What was measured of one seed without the sites behind it: enough to judge it again under other thresholds.

A threshold decides no measured number. So a seed that was measured once is judged again from this record alone, and
what is published of it is the same to the last byte as if it had been measured anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg1b.kernels.bca import Interval
from seg1b.policy.digest import canonical_json
from seg1b.policy.gates import GatesPolicy
from seg1b.scoring.gates import CounterRow, GateReport, GateRow, counter_key, evaluate
from seg1b.scoring.grading import RunStatus, run_status
from seg1b.scoring.results import CoreScore, CounterValue, SentinelRow
from seg1b.scoring.values import Metric, plain
from seg1b.store.digest import sha256_bytes

NO_REGRESSION = "judged by tune, promote, integrate and certify against their store's locked phases"
"""Not by S9: what is published of a seed is the same in every store, and can be checked without one."""

_JUDGING_PARAMETERS = frozenset({"nn_p50_scaling_sites"})


@dataclass(frozen=True)
class Measured:
    """Metrics, intervals and structural counts of `seeds` seeds together (`seed` None: a pool)."""

    seed: int | None
    seeds: int
    core: CoreScore
    counters: tuple[CounterValue, ...]
    intervals: dict[str, Interval | None]
    sentinel: tuple[SentinelRow, ...]
    violations: dict[str, int | None]

    def judged(self, gates: GatesPolicy) -> Judged:
        """Verdicts under these gates."""
        report = evaluate(
            self.core, self.counters, self.intervals, self.sentinel, self.violations, gates,
            seeds=self.seeds,
        )  # fmt: skip
        return Judged(self, report)

    def finite(self) -> bool:
        """Whether every number survives JSON: an interval without an end does not."""
        ends = (
            end for interval in self.intervals.values() if interval for end in (interval.low, interval.high)
        )
        return all(math.isfinite(end) for end in ends)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `finite` must hold."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """Inverse of `to_json`; raises KeyError or TypeError."""
        return cls(
            value["seed"],
            value["seeds"],
            core_from_json(value["core"]),
            tuple(
                CounterValue(row["name"], row["surface"], Metric(**row["metric"]))
                for row in value["counters"]
            ),
            {name: None if row is None else Interval(**row) for name, row in value["intervals"].items()},
            tuple(SentinelRow(**row) for row in value["sentinel"]),
            dict(value["violations"]),
        )


@dataclass(frozen=True)
class Judged:
    """What was measured, and the verdicts."""

    measured: Measured
    report: GateReport

    @property
    def core(self) -> CoreScore:
        """The core metrics."""
        return self.measured.core

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return run_status(self.report)

    def facts(self) -> dict[str, Any]:
        """Plain JSON data (no NaN, no infinity), as S9 publishes it."""
        one = self.measured
        return {
            "seed": one.seed,
            "seeds": one.seeds,
            "status": self.status,
            "core": plain(one.core),
            "counter_metrics": {counter_key(v.name, v.surface): plain(v.metric) for v in one.counters},
            "intervals": plain(one.intervals),
            "collapse_sentinel": plain(one.sentinel),
            "gates": plain(self.report.gates),
            "counter_gates": plain(self.report.counters),
            "no_regression": NO_REGRESSION,
        }


def core_from_json(value: Mapping[str, Any]) -> CoreScore:
    """Core metrics from their plain form. Raises KeyError or TypeError."""
    core = dict(value)
    for name in ("metrics", "region_shares"):
        core[name] = {key: Metric(**metric) for key, metric in core[name].items()}
    for name in ("eligible_country_gini", "all_country_nonzero_share"):
        core[name] = Metric(**core[name])
    return CoreScore(**core)


def report_from_facts(facts: Mapping[str, Any]) -> GateReport:
    """The verdicts that `Judged.facts` states. Raises KeyError or TypeError."""
    gates = []
    for row in facts["gates"]:
        ci95 = row["ci95"]
        gates.append(GateRow(**{**row, "ci95": None if ci95 is None else (ci95[0], ci95[1])}))
    return GateReport(tuple(gates), tuple(CounterRow(**row) for row in facts["counter_gates"]))


def measuring_digest(gates: GatesPolicy) -> str:
    """Digest (hex64) of the part of the gates that decides measured numbers: resampling, definitions, sentinel."""
    bootstrap = gates.bootstrap.model_dump(mode="json", exclude={"metrics"})
    parameters = gates.counter_metric_parameters.model_dump(mode="json", exclude=set(_JUDGING_PARAMETERS))
    facts = {
        "bootstrap": bootstrap,
        "counter_metric_parameters": parameters,
        "collapse_sentinel": gates.collapse_sentinel.model_dump(mode="json"),
    }
    return sha256_bytes(canonical_json(facts))
