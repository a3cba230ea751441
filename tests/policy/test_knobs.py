"""Knobs as a person types them: short forms, and shares that are rescaled together."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.policy.knobs import full_path, settle
from seg1b.policy.load import default_policies, knobs, set_values

DEFAULTS = default_policies()
KNOBS = knobs(DEFAULTS)
WEIGHTS = "s6.cluster_v3.component_weights"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s6.component_weights.sparse_tail", f"{WEIGHTS}.sparse_tail"),
        ("sparse_tail", f"{WEIGHTS}.sparse_tail"),
        ("s6.mixture_v2.component_weights.core", "s6.mixture_v2.component_weights.core"),
        ("s4.sites_per_area", "s4.two_stage.sites_per_area"),
        ("s2.mix.area", "s2w.mix.area"),
        ("gates.top1_share.b_plus", "gates.hard_gates.top1_share.b_plus"),
        ("merchants", "synthesis.merchants"),
        (WEIGHTS, WEIGHTS),
    ],
)
def test_a_short_form_means_one_knob(typed: str, meant: str) -> None:
    """The block that the file's mode switches on; a full path, and a whole block, mean themselves."""
    assert full_path(DEFAULTS, typed) == meant


def test_a_mode_that_is_set_beside_decides_which_block_is_meant() -> None:
    """As the policies will be, not as they are."""
    overrides = {"s6.mode": "mixture_v2", "s6.component_weights.core": 0.4}
    assert "s6.mixture_v2.component_weights.core" in settle(DEFAULTS, overrides).values


@pytest.mark.parametrize(
    ("typed", "code", "hint"),
    [
        ("s6.compnent_weights.sparse_tail", "E_POLICY_UNKNOWN_KNOB", f"did you mean '{WEIGHTS}.sparse_tail'"),
        ("s6.core_sd", "E_POLICY_UNKNOWN_KNOB", "s6.cluster_v3.core_sd_tile"),
        ("sparsetail", "E_POLICY_UNKNOWN_KNOB", f"{WEIGHTS}.sparse_tail"),
        ("s7.anything", "E_POLICY_UNKNOWN_KNOB", "there is no knob"),
        ("", "E_POLICY_UNKNOWN_KNOB", "there is no knob"),
        ("s6.", "E_POLICY_UNKNOWN_KNOB", "there is no knob"),
        ("b", "E_POLICY_AMBIGUOUS_KNOB", "or 4 others"),
        ("s4.enabled", "E_POLICY_AMBIGUOUS_KNOB", "reroute.enabled"),
    ],
)
def test_what_is_no_knob_is_refused_with_the_nearest(typed: str, code: str, hint: str) -> None:
    """By name; among many it says how many."""
    with pytest.raises(InputError, match=code) as caught:
        full_path(DEFAULTS, typed)
    assert hint in caught.value.message


@given(st.sampled_from(sorted(KNOBS)))
def test_every_full_path_means_itself(path: str) -> None:
    """Short forms take nothing from anybody."""
    assert full_path(DEFAULTS, path) == path


@given(st.integers(0, 1000), st.sampled_from(["core", "secondary", "sparse_tail"]))
def test_the_other_shares_keep_their_ratio_and_all_sum_to_one(thousandths: int, name: str) -> None:
    """Whatever one share is set to, the policies accept the result."""
    asked = thousandths / 1000
    settings = settle(DEFAULTS, {f"s6.component_weights.{name}": asked})
    policies = set_values(DEFAULTS, settings.values)
    after = policies.jitter.cluster_v3.component_weights.model_dump()
    before = DEFAULTS.jitter.cluster_v3.component_weights.model_dump()
    assert after[name] == asked
    total = sum((Fraction(repr(value)) for value in after.values()), Fraction(0))
    assert abs(total - 1) <= Fraction(1, 10**9)
    others = [key for key in after if key != name]
    left, right = (after[key] * before[other] for key, other in zip(others, reversed(others), strict=True))
    assert left == pytest.approx(right, abs=1e-11)
    assert [c.knob.rpartition(".")[2] for c in settings.changes if c.asked] == [name]


def test_a_share_that_stays_what_it_is_is_no_change() -> None:
    """Nought times anything is nought; what was asked for by name is told even so."""
    mix = {name: KNOBS[name] for name in KNOBS if name.startswith("s2w.mix.")}
    idle = [name for name, share in mix.items() if share == 0.0]
    assert idle
    settings = settle(DEFAULTS, {"s2.mix.area": 0.02})
    assert [c.knob for c in settings.changes if c.before == c.after] == []
    assert set_values(DEFAULTS, settings.values).tile_weights.mix.model_dump()["area"] == 0.02
    assert [c.knob for c in settle(DEFAULTS, {idle[0]: 0.0}).changes] == idle[:1]
    same = settle(DEFAULTS, {f"{WEIGHTS}.core": KNOBS[f"{WEIGHTS}.core"]})
    assert [c.knob for c in same.changes] == [f"{WEIGHTS}.core"]


def test_a_negative_zero_is_zero() -> None:
    """As a share and as any other number."""
    for typed in ("sparse_tail", "gates.market_slope.min"):
        (value,) = (c.after for c in settle(DEFAULTS, {typed: -0.0}).changes if c.asked)
        assert repr(value) == "0.0"


def test_shares_that_are_all_named_are_not_touched() -> None:
    """Nor is a value that the model will refuse."""
    three = {
        f"s6.component_weights.{n}": v for n, v in (("core", 0.2), ("secondary", 0.2), ("sparse_tail", 0.6))
    }
    assert set(settle(DEFAULTS, three).values.values()) == {0.2, 0.6}
    for value in (2, -0.1, "much", True):
        settings = settle(DEFAULTS, {"sparse_tail": value})
        assert settings.values == {f"{WEIGHTS}.sparse_tail": value}
        with pytest.raises(InputError, match="E_POLICY"):
            set_values(DEFAULTS, settings.values)


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"s6.component_weights.core": 0.7, "s6.component_weights.secondary": 0.5}, "E_POLICY_MIX_SUM.*more"),
        ({"s2.mix.population": 0.5}, "E_POLICY_MIX_SUM.*cannot be scaled"),
        ({"sparse_tail": 0.1, "s6.component_weights.sparse_tail": 0.2}, "E_OPTION_SET"),
    ],
)
def test_shares_that_leave_nothing_to_scale_are_refused(overrides: dict[str, Any], code: str) -> None:
    """And one knob under two names."""
    with pytest.raises(InputError, match=code):
        settle(DEFAULTS, overrides)


def test_groups_and_idle_knobs_are_told() -> None:
    """A knob of a block that is switched off does nothing; groups are the files that change."""
    settings = settle(DEFAULTS, {"s6.mixture_v2.component_weights.core": 0.3, "s4.sites_per_area": 8})
    assert settings.notes == (
        "s6.mixture_v2.component_weights.core has no effect while s6.mode is cluster_v3",
    )
    assert settings.groups == ("s6",)  # s4's knob is set to what it is
