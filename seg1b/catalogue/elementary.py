"""Logarithm, exponential and inverse normal from additions, multiplications and divisions in a fixed order.

The platform's libm differs between CPUs in the last bit; a catalogue must not. Each function is accurate to a
few units in the last place, which is far more than a draw needs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SQRT_HALF = 0.7071067811865476
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_INVERSE_LN2 = 1.4426950408889634
_LOG_TERMS = 14
_EXP_TERMS = 14

# Wichura (1988), algorithm AS 241, PPND16: numerators and denominators, lowest power first.
_CENTRE_NUMERATOR = (
    3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
    45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727,
)  # fmt: skip
_CENTRE_DENOMINATOR = (
    1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
    21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610,
)  # fmt: skip
_TAIL_NUMERATOR = (
    1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
    1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4,
)  # fmt: skip
_TAIL_DENOMINATOR = (
    1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
    0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
_FAR_NUMERATOR = (
    6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
    0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
)  # fmt: skip
_FAR_DENOMINATOR = (
    1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)  # fmt: skip


def log_each(values: Floats) -> Floats:
    """Natural logarithm of f64[n] > 0: `2 artanh((m - 1) / (m + 1)) + exponent ln 2` with m in [sqrt 1/2, sqrt 2)."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for k in range(_LOG_TERMS, -1, -1):
        series = series * square + 1.0 / (2 * k + 1)
    return np.asarray(exponent * _LN2_HIGH + (2.0 * s * series + exponent * _LN2_LOW))


def exp_each(values: Floats) -> Floats:
    """Exponential of f64[n], at most 700 in size: `2^k` times the series of the remainder, at most ln(2) / 2."""
    k = np.floor(values * _INVERSE_LN2 + 0.5)
    remainder = (values - k * _LN2_HIGH) - k * _LN2_LOW
    series = np.ones_like(remainder)
    for term in range(_EXP_TERMS, 0, -1):
        series = 1.0 + series * remainder / term
    return np.asarray(np.ldexp(series, k.astype(np.int32)))


def power_each(bases: Floats, exponent: float) -> Floats:
    """`bases ** exponent` of f64[n] >= 0; 0 stays 0."""
    positive = bases > 0.0
    out = np.zeros(bases.shape)
    out[positive] = exp_each(exponent * log_each(bases[positive]))
    return out


def _ratio(numerator: tuple[float, ...], denominator: tuple[float, ...], x: Floats) -> Floats:
    above, below = np.zeros_like(x), np.zeros_like(x)
    for i in range(7, -1, -1):
        above = above * x + numerator[i]
        below = below * x + denominator[i]
    return above / below


def normal_quantile_each(probabilities: Floats) -> Floats:
    """Inverse of the standard normal distribution function of f64[n], each in (0, 1) (AS 241, about 1e-16)."""
    q = probabilities - 0.5
    value = np.empty_like(q)
    centre = np.abs(q) <= 0.425
    near = q[centre]
    value[centre] = near * _ratio(_CENTRE_NUMERATOR, _CENTRE_DENOMINATOR, 0.180625 - near * near)
    lower = q < 0.0
    tail = np.where(lower, probabilities, 1.0 - probabilities)[~centre]
    r = np.sqrt(-log_each(tail))
    outer = np.where(
        r <= 5.0,
        _ratio(_TAIL_NUMERATOR, _TAIL_DENOMINATOR, r - 1.6),
        _ratio(_FAR_NUMERATOR, _FAR_DENOMINATOR, r - 5.0),
    )
    value[~centre] = np.where(lower[~centre], -outer, outer)
    return value


def power(base: float, exponent: float) -> float:
    """`base ** exponent` for base >= 0."""
    return float(power_each(np.array([base]), exponent)[0])


def exp(value: float) -> float:
    """Exponential of one number, as `exp_each`."""
    return float(exp_each(np.array([value]))[0])


def normal_quantile(probability: float) -> float:
    """Inverse normal of one number, as `normal_quantile_each`."""
    return float(normal_quantile_each(np.array([probability]))[0])
