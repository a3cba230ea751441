"""The two-sample tests agree with scipy.stats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from seg1b.scoring.two_sample import kolmogorov_smirnov, kolmogorov_survival, mann_whitney

samples = st.lists(st.integers(0, 12), min_size=2, max_size=40).map(lambda values: np.array(values, float))


@settings(max_examples=200)
@given(samples, samples)
def test_statistics_and_the_normal_limit_are_scipys(a: np.ndarray, b: np.ndarray) -> None:
    """Few distinct values: many ties within and between the samples."""
    assert kolmogorov_smirnov(a, b)[0] == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic)
    u, p = mann_whitney(a, b)
    expected = stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic")
    assert u == expected.statistic
    if len(np.unique(np.concatenate((a, b)))) > 1:
        assert p == pytest.approx(expected.pvalue, rel=1e-10)
    else:
        assert p == 1.0


def test_kolmogorovs_limit_is_scipys() -> None:
    """Both series, where they meet (at 0.75), and far into the tail."""
    for x in np.concatenate((np.linspace(0.0, 3.0, 3001), np.linspace(3.0, 19.0, 200), [0.75, 27.0])):
        assert kolmogorov_survival(float(x)) == pytest.approx(float(special.kolmogorov(x)), rel=3e-14)


def test_large_samples_have_kolmogorovs_limit() -> None:
    """scipy corrects for the size of the sample; at 40,000 values the difference is in the third digit."""
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=40_000), generator.normal(0.012, 1.0, size=30_000)
    distance, p = kolmogorov_smirnov(a, b)
    expected = stats.ks_2samp(a, b, method="asymp")
    assert distance == pytest.approx(expected.statistic)
    assert 1e-3 < expected.pvalue < 0.5
    assert p == pytest.approx(expected.pvalue, rel=0.01)


def test_an_empty_sample_is_refused() -> None:
    """Nothing can be said about nothing."""
    with pytest.raises(ValueError, match="at least one value"):
        kolmogorov_smirnov(np.empty(0), np.ones(3))
    with pytest.raises(ValueError, match="at least one value"):
        mann_whitney(np.ones(3), np.empty(0))
