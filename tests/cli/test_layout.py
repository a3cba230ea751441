"""How words fit a width."""

from __future__ import annotations

import math

import pytest

from seg1b.cli.layout import listed, settings_of, wrapped
from seg1b.report.wording import counted, size_text


def test_lines_break_between_words_and_go_on_indented() -> None:
    """The space inside the first line stays as it is."""
    assert wrapped("where  one two three", 12, 7) == "where  one\n       two\n       three"
    assert wrapped("  a   b", math.inf, 4) == "  a   b"
    assert wrapped("", 80, 2) == ""
    assert wrapped("a\nb", 80, 2) == "a\nb"


def test_commands_changes_and_paths_stay_whole() -> None:
    """A command can be copied, a change read, a path clicked."""
    assert wrapped("do it: `seg1b wave keep`, now", 22, 2) == "do it:\n  `seg1b wave keep`,\n  now"
    assert wrapped("knob is 0.5 -> 0.6", 14, 2) == "knob is\n  0.5 -> 0.6"
    assert wrapped("where  /a/long/path/of/a/file", 12, 7) == "where  /a/long/path/of/a/file"
    assert wrapped("say `a command that is too long`", 14, 2) == "say\n  `a command\n  that is too\n  long`"


def test_a_list_stands_beside_its_head_or_below_it() -> None:
    """A part that fits a line is not broken."""
    parts = ["knob a 1 -> 2", "knob b 3 -> 4", "c"]
    assert listed("head", parts, math.inf, 4) == "head  knob a 1 -> 2; knob b 3 -> 4; c"
    assert listed("head", parts, 24, 4) == "head\n    knob a 1 -> 2;\n    knob b 3 -> 4; c"
    assert listed("head", [], 3, 4) == "head"
    assert listed("head", ["x", "a part of five words"], 16, 2) == "head\n  x;\n  a part of five\n  words"


def test_settings_come_one_by_one() -> None:
    """A list as a value is not cut."""
    assert settings_of("s6.a.b 1 -> 2, s2w.c [1, 2] -> [1, 3], gates.x 1 -> 2") == [
        "s6.a.b 1 -> 2", "s2w.c [1, 2] -> [1, 3]", "gates.x 1 -> 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"), (999, "999 B"), (4_800, "4.8 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
        (7_600_000, "7.6 MB"), (200 * 10**9, "200.0 GB"), (3 * 10**12, "3.0 TB"),
    ],
)  # fmt: skip
def test_a_size_has_the_unit_that_fits_it(size_bytes: int, text: str) -> None:
    """Never 0.0 MB, never 1000.0 kB."""
    assert size_text(size_bytes) == text


def test_one_is_not_plural() -> None:
    """Nor is none singular."""
    assert [counted(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
