"""What every policy model shares: strictness, exact decimals, small checks that name their own error code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Literal, NoReturn, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

MacroRegion = Literal["Africa", "Asia", "Europe", "North America", "South America", "Oceania"]
MACRO_REGIONS: tuple[MacroRegion, ...] = get_args(MacroRegion)

SUM_TOLERANCE = Fraction(1, 10**9)
"""Shares that must sum to 1 may miss it by so much (written-out thirds)."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(ge=1)]
CountryIso = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Namespace = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class PolicyModel(BaseModel):
    """Base of all policy blocks: immutable, no unknown keys, no silent conversion, no infinities.

    No field has a default: every knob is written in a governed file.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=False,
    )


def exact_fraction(value: float) -> Fraction:
    """The decimal number that was written in the file, exactly: 0.1 is 1/10, not the nearest binary fraction.

    The shortest decimal that reads back as `value` (Python's `repr`) is taken as its meaning.
    """
    return Fraction(repr(value))


def fail(code: str, message: str) -> NoReturn:
    """Reject a value from inside a validator, with a code of its own instead of E_POLICY_VALUE."""
    raise PydanticCustomError(code, "{text}", {"text": message})


def check_sum_is_one(values: Mapping[str, float], what: str, code: str = "E_POLICY_MIX_SUM") -> None:
    """Shares must sum to 1 within 1e-9, by exact decimal arithmetic."""
    total = sum((exact_fraction(value) for value in values.values()), Fraction(0))
    if abs(total - 1) > SUM_TOLERANCE:
        parts = " + ".join(f"{name} {value!r}" for name, value in values.items())
        fail(code, f"{what} must sum to 1, but {parts} = {float(total):.12g}")


def check_ascending(
    values: Iterable[tuple[str, float]], code: str = "E_POLICY_CAPS_ORDER", *, strict: bool = False
) -> None:
    """Each value must be at least (strict: more than) the one before it."""
    previous: tuple[str, float] | None = None
    for name, value in values:
        if previous is not None and (value < previous[1] or (strict and value == previous[1])):
            relation = "below" if strict else "at most"
            fail(code, f"{previous[0]} ({previous[1]!r}) must be {relation} {name} ({value!r})")
        previous = (name, value)


def check_fields_ascending(model: PolicyModel, *names: str, code: str = "E_POLICY_CAPS_ORDER") -> None:
    """Each of these fields of a model must be at least the one before it."""
    check_ascending(((name, getattr(model, name)) for name in names), code)


def check_region_floors(floors: Mapping[MacroRegion, float], margin: float = 1.0) -> None:
    """Every macro-region must have a floor (0 is one), and sum x margin must not exceed 1."""
    missing = [region for region in MACRO_REGIONS if region not in floors]
    if missing:
        fail("E_POLICY_MISSING_KEY", f"no floor for {', '.join(missing)}; write 0.0 for no floor")
    total = sum((exact_fraction(value) for value in floors.values()), Fraction(0)) * exact_fraction(margin)
    if total > 1:
        times = "" if margin == 1.0 else f" times the margin {margin!r}"
        message = f"the region floors{times} sum to {float(total):.6g}; at most 1 can be met"
        fail("E_POLICY_FLOOR_SUM", message)
