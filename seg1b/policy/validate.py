"""From a parsed YAML tree to a model, with errors a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from seg1b.errors import InputError
from seg1b.policy.base import PolicyModel

ModelT = TypeVar("ModelT", bound=PolicyModel)

_NEXT_STEPS = {
    "E_POLICY_UNKNOWN_KEY": "correct or remove the key; the packaged file shows every key",
    "E_POLICY_MISSING_KEY": "add it; the packaged file shows every key with its default",
    "E_POLICY_MIX_SUM": "change the shares so that they sum to 1",
    "E_POLICY_CAPS_ORDER": "put the limits in ascending order",
    "E_POLICY_THRESHOLD_ORDER": "put the thresholds in ascending order",
    "E_POLICY_FLOOR_SUM": "lower some floors or the margin",
    "E_POLICY_GATE_ORDER": "make the B+ limit at least as strict as the B limit, and min at most max",
}


def did_you_mean(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?`, or nothing when no choice is close."""
    close = difflib.get_close_matches(name, sorted(set(choices)), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def _choices_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at the level of the last element of `location`."""
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        if field is None:
            return []
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            continue
        key_type = get_args(annotation)[:1]
        return [str(choice) for choice in get_args(key_type[0])] if key_type else []
    return list(model.model_fields)


def _one_problem(model: type[BaseModel], error: Any) -> tuple[str, str, str]:
    """(code, field path, message) of one pydantic error."""
    location = tuple(error["loc"])
    kind = str(error["type"])
    is_dictionary_key = bool(location) and location[-1] == "[key]"
    if is_dictionary_key:
        location = location[:-1]
    path = ".".join(str(step) for step in location)
    value = error.get("input")
    if kind == "extra_forbidden" or is_dictionary_key:
        name = str(location[-1])
        hint = did_you_mean(name, _choices_at(model, location))
        return "E_POLICY_UNKNOWN_KEY", path, f"unknown key {name!r}{hint}"
    if kind == "missing" and isinstance(location[-1], int):
        return "E_POLICY_VALUE", path, f"the list is too short: entry {location[-1] + 1} is missing"
    if kind == "missing":
        return "E_POLICY_MISSING_KEY", path, "this key is missing"
    if kind.startswith("E_POLICY_"):
        return kind, path, str(error["msg"])
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return "E_POLICY_VALUE", path, f"expected a block of keys, got {value!r}"
    hint = ""
    if kind == "string_pattern_mismatch" and "country" in path:
        hint = "; a country is two upper-case letters, such as NA"
    elif kind == "string_type" and "country" in path:
        hint = "; quote a country code, such as 'NO'"
    elif kind == "literal_error" and isinstance(value, str):
        expected = str(error.get("ctx", {}).get("expected", ""))
        hint = did_you_mean(value, [part.strip("' ") for part in expected.replace(" or ", ",").split(",")])
    message = str(error["msg"])
    return "E_POLICY_VALUE", path, f"{message[0].lower()}{message[1:]}, got {value!r}{hint}"


def build(model: type[ModelT], data: Any, where: str) -> ModelT:
    """Validate `data` into `model`.

    Raises InputError: its code is that of the first problem, its message lists all of them by field path.
    """
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds {type(data).__name__} {data!r}"
        raise InputError(
            "E_POLICY_VALUE",
            f"the file {found}; it must be a block of keys",
            where=where,
            next_step="copy the packaged file and change it",
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_one_problem(model, item) for item in error.errors(include_url=False)]
    code, first_path, first_message = problems[0]
    if len(problems) == 1:
        message = first_message
    else:
        lines = [f"{path or '(whole file)'}: {text} [{kind}]" for kind, path, text in problems]
        message = f"{len(problems)} problems:\n    " + "\n    ".join(lines)
    raise InputError(
        code,
        message,
        where=f"{where}, field {first_path}" if first_path else where,
        next_step=_NEXT_STEPS.get(code, "correct the value"),
    )
