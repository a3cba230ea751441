"""What a bundle's 1A evidence must be before the guard computes anything from it.

A table that covers some merchants, names others, or holds a key twice gives numbers too, but not the catalogue's:
what is computed from it is then `not computable`, with the reason. The rules:

    s3_candidate_set       a (merchant, country) once; a home row, the merchant's home in the catalogue, for every
                           merchant that it covers; every country in which they have outlets
    s6_membership          a (merchant, country) once; foreign candidates only, and every foreign country with outlets
    nb_dispersion          a merchant once, positive numbers
    these cover            all merchants, or exactly those with more than one outlet (candidates and dispersions)
    s3_integerised_counts  the catalogue's pairs with their outlets; beside them, countries that got none
    s3_site_sequence       the catalogue's outlets, numbered
    sparse_flag, hurdle_stationarity_tests   at least a row; merchant_abort_log may be empty

Merchants are those of the catalogue; countries are two capital letters (the guard has no world to ask).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.catalogue.rows import OutletRuns, as_dictionary
from seg1b.catalogue.tables import REQUIRED_OUTPUTS, SITE_SEQUENCE
from seg1b.store.digest import numbers_of

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Merchants = npt.NDArray[np.uint64]

EVIDENCE: Final = ("s3_candidate_set", "s6_membership", "nb_dispersion")
GUARD_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "s3_candidate_set": ("merchant_id", "country_iso", "is_home"),
    "s6_membership": ("merchant_id", "country_iso"),
    "nb_dispersion": ("merchant_id", "dispersion_k"),
    "s3_integerised_counts": ("merchant_id", "country_iso", "count"),
}
"""What the guard reads; of every other dataset it only knows the number of rows."""

_CODES: Final = 26 * 26
_MAY_BE_EMPTY: Final = ("merchant_abort_log",)


@dataclass(frozen=True)
class Evidence:
    """Sound evidence by merchant, ascending: foreign candidates int64[M] and members int64[M], and the dispersions.

    None where there is none, for the reason in `faults`. `outputs`: 1 if all required outputs are there, 0 if one is
    not, None if one does not hold what it should.
    """

    candidates: Integers | None
    members: Integers | None
    dispersion: Floats | None
    outputs: float | None
    faults: tuple[str, ...]


class _UnsoundError(Exception):
    """Why a table is no evidence."""


def evidence_of(
    runs: OutletRuns, tables: Mapping[str, pa.Table], rows: Mapping[str, int], *, sequence_follows: bool
) -> Evidence:
    """Read the evidence for a catalogue with at least one outlet.

    `tables`: datasets of the bundle by id with `GUARD_COLUMNS`; `rows`: of all of its datasets; `sequence_follows`:
    whether s3_site_sequence numbers the catalogue's outlets.
    """
    pairs = _Pairs.of(runs)
    missing = [name for name in EVIDENCE if name not in tables]
    faults = [f"the bundle has no {', '.join(missing)}"] if missing else []

    def sound(name: str, read: Callable[[pa.Table], npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
        try:
            return read(tables[name]) if name in tables else None
        except _UnsoundError as error:
            faults.append(str(error))
            return None

    candidates = sound("s3_candidate_set", lambda table: _candidates(table, pairs))
    members = sound("s6_membership", lambda table: _members(table, pairs, candidates))
    dispersion = sound("nb_dispersion", lambda table: _dispersion(table, pairs))
    outputs: float | None = float(all(name in rows for name in REQUIRED_OUTPUTS))
    try:
        if outputs:
            _require_outputs(tables, rows, pairs, sequence_follows)
    except _UnsoundError as error:
        outputs = None
        faults.append(str(error))
    return Evidence(
        None if candidates is None else pairs.count(candidates),
        None if members is None else pairs.count(members),
        dispersion,
        outputs,
        tuple(faults),
    )


@dataclass(frozen=True)
class _Pairs:
    """The catalogue's pairs as keys, place of the merchant times 676 plus the country's number; ascending."""

    merchant_id: Merchants
    outlets: Integers
    key: Integers
    sites: Integers
    home: Integers

    @staticmethod
    def of(runs: OutletRuns) -> _Pairs:
        merchant_id, place = np.unique(runs.merchant_id, return_inverse=True)
        number = np.array([_number(code) for code in runs.codes], np.int64)
        key, run = np.unique(place * _CODES + number[runs.country], return_inverse=True)
        home = np.zeros(merchant_id.size, np.int64)
        home[place] = number[runs.home_country]
        sites = np.bincount(run, weights=runs.n_rows).astype(np.int64)
        outlets = np.bincount(place, weights=runs.n_rows).astype(np.int64)
        return _Pairs(merchant_id, outlets, key, sites, np.arange(merchant_id.size) * _CODES + home)

    @property
    def abroad(self) -> Integers:
        """Keys of the pairs outside the merchant's home."""
        return np.setdiff1d(self.key, self.home, assume_unique=True)

    def count(self, keys: Integers) -> Integers:
        """int64[M]: how many of the keys each merchant has."""
        return np.bincount(keys // _CODES, minlength=self.merchant_id.size)

    def require_cover(self, covered: npt.NDArray[np.bool_], table: str) -> None:
        """All merchants, or exactly those with more than one outlet."""
        multi = self.outlets > 1
        if covered.all() or np.array_equal(covered, multi):
            return
        lacking = int((multi & ~covered).sum())
        if lacking:
            raise _UnsoundError(
                f"{table} lacks {lacking} of {int(multi.sum())} merchants with more than one outlet"
            )
        some = int((covered & ~multi).sum())
        raise _UnsoundError(
            f"{table} has {some} of {int((~multi).sum())} merchants with one outlet, not all or none"
        )


def _number(code: str) -> int:
    """0..675, -1 for what is not two capital letters."""
    sound = len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()
    return 26 * (ord(code[0]) - 65) + ord(code[1]) - 65 if sound else -1


def _places(table: pa.Table, name: str, pairs: _Pairs) -> Integers:
    """Place of each row's merchant in the catalogue."""
    if any(column.null_count for column in table.columns):
        raise _UnsoundError(f"{name} has missing values")
    rows = numbers_of(table.column("merchant_id"))
    at = np.minimum(np.searchsorted(pairs.merchant_id, rows), pairs.merchant_id.size - 1)
    unknown = int((pairs.merchant_id[at] != rows).sum())
    if unknown:
        raise _UnsoundError(f"{name} has {unknown} rows of merchants that are not in the catalogue")
    return at


def _row_keys(table: pa.Table, name: str, pairs: _Pairs) -> Integers:
    """Key of each row; none occurs twice."""
    place = _places(table, name, pairs)
    number = np.empty(place.size, np.int64)
    first = 0
    for chunk in table.column("country_iso").chunks:
        encoded = as_dictionary(chunk)
        words = np.array([_number(code) for code in encoded.dictionary.to_pylist()], np.int64)
        number[first : first + len(chunk)] = words[numbers_of(encoded.indices)] if len(chunk) else 0
        first += len(chunk)
    if (number < 0).any():
        raise _UnsoundError(f"{name} has {int((number < 0).sum())} rows without a country code")
    keys = place * _CODES + number
    _require_once(keys, name)
    return keys


def _require_once(keys: Integers, name: str) -> None:
    repeated = int((np.diff(np.sort(keys)) == 0).sum())
    if repeated:
        raise _UnsoundError(f"{name} has {repeated} rows whose key another row has")


def _candidates(table: pa.Table, pairs: _Pairs) -> Integers:
    """Keys of the foreign candidates, ascending."""
    name = "s3_candidate_set"
    keys = _row_keys(table, name, pairs)
    is_home = numbers_of(table.column("is_home").cast(pa.uint8())) > 0
    homes = np.sort(keys[is_home])
    covered = np.zeros(pairs.merchant_id.size, np.bool_)
    covered[keys // _CODES] = True
    if not np.array_equal(homes, pairs.home[covered]):
        raise _UnsoundError(f"the home rows of {name} are not the homes of its merchants")
    pairs.require_cover(covered, name)
    foreign = np.sort(keys[~is_home])
    _require_all(pairs.abroad, foreign, f"{name} lacks %d of %d foreign pairs that have outlets")
    return foreign


def _members(table: pa.Table, pairs: _Pairs, candidates: Integers | None) -> Integers:
    name = "s6_membership"
    keys = np.sort(_row_keys(table, name, pairs))
    if candidates is not None:
        _require_all(keys, candidates, f"%d of %d rows of {name} are no foreign candidates")
    _require_all(pairs.abroad, keys, f"{name} lacks %d of %d foreign pairs that have outlets")
    return keys


def _require_all(wanted: Integers, there: Integers, what: str) -> None:
    """`what` takes how many of the wanted keys are not there, and how many were wanted. Both ascend."""
    lacking = wanted.size - int(np.isin(wanted, there, assume_unique=True).sum())
    if lacking:
        raise _UnsoundError(what % (lacking, wanted.size))


def _dispersion(table: pa.Table, pairs: _Pairs) -> Floats:
    name = "nb_dispersion"
    place = _places(table, name, pairs)
    _require_once(place, name)
    covered = np.zeros(pairs.merchant_id.size, np.bool_)
    covered[place] = True
    pairs.require_cover(covered, name)
    dispersion: Floats = numbers_of(table.column("dispersion_k"))
    if not (np.isfinite(dispersion) & (dispersion > 0.0)).all():
        raise _UnsoundError(f"{name} has values that are no positive numbers")
    return dispersion


def _require_outputs(
    tables: Mapping[str, pa.Table], rows: Mapping[str, int], pairs: _Pairs, sequence_follows: bool
) -> None:
    empty = [name for name in REQUIRED_OUTPUTS if name not in _MAY_BE_EMPTY and not rows[name]]
    if empty:
        raise _UnsoundError(f"no rows in {', '.join(empty)}")
    if not sequence_follows:
        raise _UnsoundError(f"{SITE_SEQUENCE} does not number the catalogue's outlets")
    name = "s3_integerised_counts"
    keys = _row_keys(tables[name], name, pairs)
    count = numbers_of(tables[name].column("count"))
    if (count < 0).any():
        raise _UnsoundError(f"{name} has negative counts")
    order = np.argsort(keys)
    order = order[count[order] > 0]
    if not (np.array_equal(keys[order], pairs.key) and np.array_equal(count[order], pairs.sites)):
        raise _UnsoundError(f"the counts of {name} are not those of the catalogue's pairs")
