"""What a tuning may set, and that what changes nothing is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lane_cases import one_seed
from tune_cases import candidate, contents, opened

from seg1b.errors import InputError
from seg1b.lanes.knob_effect import settled
from seg1b.policy.load import knobs, set_values
from seg1b.world.content import World


@pytest.mark.parametrize(
    ("overrides", "told", "next_step"),
    [
        ({"s6.core_sd_tile": 0.15}, "s6.cluster_v3.core_sd_tile is 0.15 already", "another value"),
        ({"s6.mixture_v2.selection_blend": 0.4}, "while s6.mode is cluster_v3", "--set s6.mode=mixture_v2"),
        ({"s6.mixture_v2.component_weights.core": 0.4}, "while s6.mode is cluster_v3", "s6.mode=mixture_v2"),
        ({"s4.guard.hard": 0.99}, "while s4.mode is two_stage_pps", "s4.mode=largest_remainder_v1"),
        ({"s5.v1_manifest_fingerprint": "a" * 64, "s4.sites_per_area": 8}, "while s5.rng is v2", "s5.rng=v1"),
    ],
)
def test_what_changes_nothing_is_refused_before_anything_runs(
    tmp_path: Path, real_world: World, overrides: dict[str, Any], told: str, next_step: str
) -> None:
    """No slot of the wave, no receipt, no object; with a run to compare with, a knob that is off is refused too."""
    root = tmp_path / "runs"
    with opened(root):
        before = contents(root)
    with pytest.raises(InputError, match="E_TUNE_NO_EFFECT") as error:
        candidate(root, real_world, overrides)
    assert told in error.value.message
    assert next_step in error.value.next_step
    assert contents(root) == before
    if "already" not in told:
        with pytest.raises(InputError, match="E_TUNE_NO_EFFECT"):
            candidate(root, real_world, overrides, against="last_good")


@pytest.mark.parametrize(
    "knob", ["certification.seeds", "lanes.wave_candidates_max", "retention.keep_newest_runs", "budgets.hotspots",
             "guard"]
)  # fmt: skip
def test_a_candidate_cannot_set_its_own_rules(tmp_path: Path, real_world: World, knob: str) -> None:
    """What no state of a seed depends on is no knob of this lane: above all not how many candidates a wave takes."""
    with opened(tmp_path / "runs"):
        before = contents(tmp_path / "runs")
    name = next(path for path in knobs(one_seed()) if path.startswith(knob))
    value = knobs(one_seed())[name]
    for also in ({}, {"s6.core_sd_tile": 0.3}):
        with pytest.raises(InputError, match=rf"E_TUNE_KNOB.*{knob}.*cannot be tuned"):
            candidate(tmp_path / "runs", real_world, {name: value, **also})
    assert contents(tmp_path / "runs") == before


def test_a_knob_and_the_mode_that_lets_it_matter_are_no_idle_pair() -> None:
    """Asked for together they have an effect; so has a threshold beside an idle knob, with a note."""
    both = {"s6.mode": "mixture_v2", "s6.mixture_v2.selection_blend": 0.4}
    assert settled(one_seed(), both)[0].notes == ()
    off = set_values(one_seed(), {"s3.enabled": False})
    with pytest.raises(InputError, match=r"E_TUNE_NO_EFFECT.*while s3.enabled is False") as error:
        settled(off, {"s3.denylist_country_iso": ["FR"]})
    assert "--set s3.enabled=true" in error.value.next_step
    settled(off, {"s3.denylist_country_iso": ["FR"], "s3.enabled": True})
    beside = {"s6.mixture_v2.selection_blend": 0.4, "gates.cv.b_plus": 0.1}
    assert "no effect while s6.mode" in settled(one_seed(), beside)[0].notes[0]
