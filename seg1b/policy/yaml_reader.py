"""Read policy YAML without YAML 1.1's surprises.

Booleans are only `true` and `false` (so Norway's `NO` and Namibia's `NA` stay strings), numbers follow the
core schema of YAML 1.2 (`1e-9` is a number, `010` is ten, `1:30` is a string), there are no dates, and a
repeated key is an error instead of a silent override.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from seg1b.errors import InputError

if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:  # libyaml's where PyYAML was built with it: an eighth of the time, and every command reads all policies
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SafeLoader):
    """SafeLoader with YAML 1.2 scalars, unique keys, and neither aliases nor merge keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_document(self, node: yaml.Node) -> Any:
        """As the base class, but a node that an alias names again is a ComposerError."""
        seen: set[int] = set()
        found = [node]
        while found:
            one = found.pop()
            if id(one) in seen:
                problem = "an anchor is used again; aliases are not used in policies"
                raise yaml.composer.ComposerError(None, None, problem, one.start_mark)
            seen.add(id(one))
            if isinstance(one, yaml.MappingNode):
                found += [part for pair in one.value for part in pair]
            elif isinstance(one, yaml.SequenceNode):
                found += one.value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the base class, but a key that is no text is a ConstructorError, one given twice a _DuplicateKeyError."""
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key_node.value!r} is not text; quote it"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in lines:
                raise _DuplicateKeyError(key, lines[key] + 1, key_node.start_mark.line + 1)
            lines[key] = key_node.start_mark.line
        return super().construct_mapping(node, deep)


class _DuplicateKeyError(Exception):
    def __init__(self, key: str, first_line: int, second_line: int) -> None:
        super().__init__(key)
        self.key, self.first_line, self.second_line = key, first_line, second_line


def _add(tag: str, pattern: str, first: str) -> None:
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_add("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_add("null", r"^(?:~|null|Null|NULL)$", "~nN")
_add("int", r"^[-+]?[0-9]+$", "-+0123456789")
_add("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")
_add("float", r"^[-+]?\.(?:inf|Inf|INF)$", "-+.")
_add("float", r"^\.(?:nan|NaN|NAN)$", ".")
_StrictLoader.yaml_implicit_resolvers.setdefault("", []).append(
    ("tag:yaml.org,2002:null", re.compile(r"^$"))
)  # an empty value is null
_StrictLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 10))


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document; raise InputError E_POLICY_PARSE or E_POLICY_DUPLICATE_KEY with the line."""
    loader: _StrictLoader | None = None
    try:
        loader = _StrictLoader(text)
        return loader.get_single_data()
    except _DuplicateKeyError as error:
        raise InputError(
            "E_POLICY_DUPLICATE_KEY",
            f"the key {error.key!r} is written twice, on lines {error.first_line} and {error.second_line}",
            where=f"{where}, line {error.second_line}",
            next_step="keep one of them; the second would silently win",
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise InputError(
            "E_POLICY_PARSE",
            f"this is not valid YAML: {problem}",
            where=f"{where}{line}",
            next_step="correct the line; indent with spaces, and quote text that contains : or #",
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path) -> Any:
    """Read and parse a UTF-8 file; see `parse_yaml`.

    Raises InputError E_POLICY_UNREADABLE or E_POLICY_PARSE (also for what is not UTF-8).
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            "E_POLICY_UNREADABLE",
            f"the policy file cannot be read: {error.strerror or error}",
            where=str(path),
            next_step="check that it is a file and that you may read it",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            "E_POLICY_PARSE",
            f"the file is not UTF-8 text (byte {error.start})",
            where=str(path),
            next_step="save it as UTF-8",
        ) from None
    return parse_yaml(text, str(path))
