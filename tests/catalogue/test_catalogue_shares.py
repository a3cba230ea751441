"""Country shares: prior, capacity, projection, the table in parts per million, and the elementary
functions.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from catalogue_cases import AREA_KM2, ISO, country_table, shares_policy, small_shares, southern
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from seg1b.catalogue import elementary
from seg1b.catalogue.projected_shares import country_shares
from seg1b.catalogue.shares import PPM, CountryShares, capacity_sites, market_size, minimum_sites
from seg1b.errors import InputError
from seg1b.kernels.inequality import gini, top_share
from seg1b.world.content import CountryTable


def project(countries: CountryTable | None = None, **limits: float) -> CountryShares:
    """Shares of the small world, or of another table of the same countries."""
    return country_shares(
        countries or country_table(), southern(), np.array(AREA_KM2), shares_policy(**limits)
    )


def share_of(shares: CountryShares, iso: str) -> int:
    """Parts per million of one country."""
    return int(shares.share_ppm[ISO.index(iso)])


def test_market_size_by_hand() -> None:
    """Population times the root of GDP per head; nothing for a country that is not eligible."""
    size = market_size(country_table(), 0.5)
    assert size[ISO.index("NR")] == pytest.approx(10_900 * math.sqrt(12_000), rel=1e-14)
    assert size[ISO.index("AQ")] == 0.0


def test_capacity_and_minimum_by_hand() -> None:
    """Nauru: 10,900 people / 500 = 21; Vatican City has fewer people than one site needs and is not
    served.
    """
    capacity = capacity_sites(country_table(), np.array(AREA_KM2), shares_policy())
    minimum = minimum_sites(country_table(), shares_policy())
    assert capacity[ISO.index("NR")] == 21
    assert capacity[ISO.index("VA")] == minimum[ISO.index("VA")] == 0
    assert minimum.sum() == len(ISO) - 2


def test_a_small_area_limits_the_capacity() -> None:
    """A country of one square kilometre holds two tiles of twenty outlets, whatever its population."""
    area = np.array(AREA_KM2)
    area[ISO.index("NA")] = 1.0
    assert capacity_sites(country_table(), area, shares_policy())[ISO.index("NA")] == 40


def test_the_table_meets_every_limit() -> None:
    """Sum, limits within rounding, and everybody with enough people is served."""
    shares = small_shares()
    assert int(shares.share_ppm.sum()) == PPM
    assert max(shares.violation.values()) <= 20e-6
    assert [iso for iso, served in zip(ISO, shares.served, strict=True) if not served] == ["AQ", "VA"]
    served = shares.share_ppm[shares.served]
    assert (gini(served) or 1.0) <= 0.45 + 1e-5
    assert (top_share(served, 10) or 1.0) <= 0.3 + 1e-5
    assert float(shares.share @ southern()) >= 0.25 - 1e-5
    assert abs(shares.duality_gap) < 1e-7


def test_the_table_and_its_prices_survive_the_last_digits_of_their_inputs() -> None:
    """GDP per head and southern shares off by 1e-12, as if from another libm: the same table, prices to 1e-9."""
    table = country_table()
    expected = project()
    rng = np.random.default_rng(5)
    for _ in range(10):
        noise = 1.0 + rng.uniform(-1e-12, 1e-12, (2, len(ISO)))
        nearby = dataclasses.replace(table, gdp_per_head=table.gdp_per_head * noise[0])
        south = np.minimum(southern() * noise[1], 1.0)
        found = country_shares(nearby, south, np.array(AREA_KM2), shares_policy())
        assert found.share_ppm.tolist() == expected.share_ppm.tolist()
        assert found.prices == pytest.approx(expected.prices, abs=1e-9)
        assert found.bound_price == pytest.approx(expected.bound_price, abs=1e-9)
        assert abs(found.duality_gap) <= 1e-9


def test_the_capacity_of_a_micro_state_binds() -> None:
    """With 5000 people to an outlet Nauru holds 2 of 4000 outlets: it gets 500 ppm, and a positive price says
    so.
    """
    packaged = shares_policy()
    capacity = packaged.capacity.model_copy(update={"people_per_site": 5000})
    policy = packaged.model_copy(update={"capacity": capacity})
    shares = country_shares(country_table(), southern(), np.array(AREA_KM2), policy)
    assert share_of(shares, "NR") == 500
    assert shares.bound_price[ISO.index("NR")] > 0.0
    assert share_of(small_shares(), "NR") > 500


def test_the_design_weight_undoes_the_distortion() -> None:
    """Share times weight is the prior; a country without a share has none."""
    shares = small_shares()
    np.testing.assert_allclose(
        (shares.share * shares.design_weight)[shares.served], shares.prior[shares.served]
    )
    assert shares.design_weight[ISO.index("AQ")] == 0.0


def test_infeasible_limits_are_named() -> None:
    """Nearly everything in six southern countries cannot go with equality; the other limits are innocent."""
    with pytest.raises(InputError) as caught:
        project(southern_min=0.95)
    assert caught.value.code == "E_SHARES_INFEASIBLE"
    assert "together: southern_share >= 0.95; country_gini <= 0.45" in caught.value.message


def test_a_missing_gdp_is_refused_by_country() -> None:
    """-99 is no GDP per head."""
    gdp = np.array(country_table().gdp_per_head)
    gdp[ISO.index("NA")] = -99.0
    with pytest.raises(InputError, match="GDP per head of NA is -99") as caught:
        project(country_table(gdp_per_head=gdp))
    assert caught.value.code == "E_SHARES_PRIOR"


def test_wrong_shapes_and_surfaces_are_refused() -> None:
    """One southern share per country, in [0, 1]; areas positive."""
    with pytest.raises(InputError) as caught:
        country_shares(country_table(), np.zeros(3), np.array(AREA_KM2), shares_policy())
    assert caught.value.code == "E_SHARES_SHAPE"
    with pytest.raises(InputError) as caught:
        country_shares(country_table(), southern() + 0.5, np.array(AREA_KM2), shares_policy())
    assert caught.value.code == "E_SHARES_SURFACE"
    nobody = country_table(population=np.zeros(len(ISO), np.int64))
    with pytest.raises(InputError) as caught:
        project(nobody)
    assert caught.value.code == "E_SHARES_NO_COUNTRY"


def test_the_digest_is_that_of_the_table() -> None:
    """Equal tables, equal digest; another limit, another digest."""
    assert small_shares().digest == project().digest
    assert small_shares().digest != project(southern_min=0.3).digest


# Elementary functions


@given(st.floats(1e-300, 1e300))
def test_logarithm(x: float) -> None:
    """Within a few units in the last place of the platform's."""
    assert elementary.log_each(np.array([x]))[0] == pytest.approx(math.log(x), rel=1e-15, abs=1e-15)


@given(st.floats(-700.0, 700.0))
def test_exponential(x: float) -> None:
    """Within a few units in the last place of the platform's."""
    assert elementary.exp(x) == pytest.approx(math.exp(x), rel=2e-15)


@given(st.floats(1e-300, 1.0 - 2.0**-53))
def test_normal_quantile(p: float) -> None:
    """Algorithm AS 241 against scipy, in the centre and in both tails."""
    assert elementary.normal_quantile(p) == pytest.approx(float(ndtri(p)), rel=1e-12, abs=1e-14)


def test_exact_values_and_pinned_bits() -> None:
    """Identities hold exactly, and the last bits are the same on every machine."""
    assert elementary.log_each(np.array([1.0]))[0] == 0.0
    assert elementary.exp(0.0) == 1.0
    assert elementary.normal_quantile(0.5) == 0.0
    assert elementary.exp(1.0).hex() == "0x1.5bf0a8b14576ap+1"
    assert elementary.log_each(np.array([10.0]))[0].hex() == "0x1.26bb1bbb55516p+1"
    assert elementary.normal_quantile(0.975).hex() == "0x1.f5c0331eeff82p+0"
