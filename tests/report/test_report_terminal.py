"""The terminal: complete at 80 columns, and readable without colour."""

from __future__ import annotations

import io
from typing import Any

import pytest
from report_cases import COUNTERS, case
from rich.console import Console, RenderableType

from seg1b.report.terminal import counter_table, gate_table, summary_panel

FAILING: dict[str, Any] = {
    "grade": "below_B",
    "gates": {7: {"country_gini": 0.65, "nn_p99_p50_ratio": None, "structural.duplicate_keys": 3.0}},
    "counters": {101: {"population_pit_mean": 0.03}},
    "reasons": (
        "seed 7: nn_p99_p50_ratio",
        "pooled: nn_p99_p50_ratio",
        "seed 7: structural.duplicate_keys",
        "seed 202: the replay differs from what was published",
        "cv nn_p99_p50_ratio: not_computable: the metric is not computable in every seed",
    ),
}


def printed(what: RenderableType, width: int) -> list[str]:
    """Lines without any control sequence."""
    out = io.StringIO()
    Console(file=out, width=width, no_color=True, force_terminal=False).print(what)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_and_show_every_value_whole(width: int) -> None:
    """No line is too long and no number is cut."""
    document = case().document
    gates, counters = printed(gate_table(document), width), printed(counter_table(document), width)
    assert max(map(len, gates + counters)) <= width
    assert not any("…" in line for line in gates + counters)
    gini = next(line for line in gates if line.startswith("country_gini"))
    assert gini.split() == ["country_gini", "≤0.60", "(0.68)", *["0.530"] * 5, "+12%", "✓", "B+"]
    slope = next(line for line in counters if line.startswith("market_slope"))
    assert slope.split() == ["market_slope", "≥", "0.4", *["0.500"] * 5, "✓"]
    for name, *_ in COUNTERS:
        assert any(line.startswith(name.replace("_share_difference", "")[:9]) for line in counters)


@pytest.mark.parametrize("width", [80, 120])
def test_failures_are_signs_not_only_colours(width: int) -> None:
    """○ meets B only, ✗ fails; a missing value is a dash and has no margin; a structural failure is unfolded."""
    document = case(**FAILING).document
    gates = printed(gate_table(document), width)
    assert max(map(len, gates)) <= width
    text = {line.split()[0]: line for line in gates if line.strip()}
    assert "○0.650" in text["country_gini"]
    assert text["country_gini"].rstrip().endswith("○ B")
    assert "✗–" in text["nn_p99_p50_ratio"]
    assert "%" not in text["nn_p99_p50_ratio"]
    assert text["nn_p99_p50_ratio"].rstrip().endswith("✗")
    assert "✗3" in text["duplicate_keys"]
    counters = printed(counter_table(document), width)
    assert "✗0.030" in next(line for line in counters if line.startswith("population_pit_mean"))


def test_many_seeds_are_counted_instead_of_listed() -> None:
    """Twenty seeds fit at 80 columns, and say how many of them fail."""
    document = case(tuple(range(20)), grade="below_B", gates={3: {"top1_share": 0.2}}).document
    lines = printed(gate_table(document), 80)
    assert max(map(len, lines)) <= 80
    assert "✗ 1 of 20" in next(line for line in lines if line.startswith("top1_share"))
    assert "all 20" in next(line for line in lines if line.startswith("top5_share"))


def test_the_summary_tells_grade_reasons_and_advice() -> None:
    """What failed, once per gate with its seeds, and what would move it."""
    text = " ".join(" ".join(printed(summary_panel(case(**FAILING).document), 100)).split())
    assert "grade below B" in text
    assert "9f3c1ab27de4" in text
    assert "✗ nn_p99_p50_ratio (seed 7, pooled) │ │ → Decided by placement" in text
    assert "✗ seed 202: the replay differs" in text
    assert "cv nn_p99_p50_ratio: not_computable" in text


def test_the_summary_of_a_passing_certificate_has_no_reasons() -> None:
    """Only facts; the denylist is one of them."""
    text = "\n".join(printed(summary_panel(case(denylist=("KP",)).document), 80))
    assert "why not" not in text
    assert "KP (stay in all denominators)" in text
    assert "42: 900 sites, passes everything" in text
    assert "are those packaged with seg1b." in text


def test_the_summary_says_what_the_grade_was_earned_with() -> None:
    """Gates and world of one's own are named."""
    text = " ".join(" ".join(printed(summary_panel(case(own=("gates", "world")).document), 100)).split())
    assert "Earned with other gates and world than those packaged" in text
