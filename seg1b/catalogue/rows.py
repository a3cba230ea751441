"""The row-per-outlet table of a bundle, taken in batch by batch and collapsed to pairs.

Memory grows with the pairs and never with the outlets. What the rows promise (engine-contracts 7.1) is checked while
they pass; a carry of the last row ties every batch to the one before, so that it does not matter where batches, row
groups or files end. The first row that breaks a promise is remembered with its place: the guard only wants to know
whether there is one, a reader refuses it by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seg1b.catalogue.outlets import MAX_SITES_PER_PAIR, OutletCatalogue
from seg1b.errors import InputError
from seg1b.store.digest import numbers_of

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ROW_COLUMNS: Final = (
    "merchant_id",
    "site_id",
    "home_country_iso",
    "legal_country_iso",
    "raw_nb_outlet_draw",
    "final_country_outlet_count",
    "site_order",
)
"""What the pairs are made from. Of the other columns, single_vs_multi_flag follows from the draw (checked where it is
read), and the rest say who made the table."""

MULTI_FLAG: Final = "single_vs_multi_flag"

RESTORE: Final = "restore the bundle from where it was made, or make it again; never edit its files"
_OF_A_PAIR: Final = ("home_country_iso", "raw_nb_outlet_draw", "final_country_outlet_count")
_SITE_ID_LENGTH: Final = 6
_MAX_CODES: Final = 26 * 26


@dataclass(frozen=True)
class RowFault:
    """The first row that breaks a promise: what is wrong, and file, row and field."""

    what: str
    where: str

    def error(self, code: str) -> InputError:
        """The error that refuses the row."""
        return InputError(code, self.what, where=self.where, next_step=RESTORE)


@dataclass(frozen=True)
class OutletRuns:
    """R runs of rows, in row order: a run ends where merchant or country changes, or where counting begins anew.

    In a sound table a run is a pair. Countries are positions in `codes` (ascending). `first_row` counts from 0 over
    all files, and `files` says at which row each of them begins. `numbering`, `naming` and `constancy` are the first
    rows where site_order does not count 1, 2, .., and where site_id is not its zero-filled text; `counting` and
    `constancy` those where the count of a pair, or its home or draw, changes within it; `flagging` where
    single_vs_multi_flag contradicts the draw.
    """

    codes: tuple[str, ...]
    merchant_id: npt.NDArray[np.uint64]
    country: npt.NDArray[np.int16]
    home_country: npt.NDArray[np.int16]
    raw_outlet_draw: npt.NDArray[np.int32]
    stated_count: npt.NDArray[np.int32]
    first_row: Integers
    rows: int
    files: tuple[tuple[int, str], ...]
    numbering: RowFault | None
    naming: RowFault | None
    counting: RowFault | None
    constancy: RowFault | None
    flagging: RowFault | None

    @property
    def n_rows(self) -> Integers:
        """int64[R]: rows of every run."""
        return np.diff(self.first_row, append=self.rows)

    def require_derived(self) -> None:
        """Demand that the other columns follow from the pairs: InputError E_CATALOGUE_SITE_ID or E308_COUNTS_MISMATCH.

        No pair depends on these columns, so `catalogue` does not ask; without this, other rows would mean the same.
        """
        if self.naming is not None:
            raise self.naming.error("E_CATALOGUE_SITE_ID")
        if self.flagging is not None:
            raise self.flagging.error("E308_COUNTS_MISMATCH")

    def where(self, row: int, field: str) -> str:
        """File, row (counted from 1 in its file) and field."""
        return _place(self.files, row, field)

    def catalogue(self, seed: int, iso: tuple[str, ...] | None = None) -> OutletCatalogue:
        """The pairs, over the ascending country table `iso` or, without one, over the countries that occur.

        Raises InputError E_CATALOGUE_EMPTY, E302_FK_COUNTRY, E314_SITE_ORDER_INTEGRITY, E307_PK_DUPLICATE,
        E310_UNSORTED, E308_COUNTS_MISMATCH, E_EGRESS_HASH_MISMATCH (a row differs from the first one of its pair),
        E_CATALOGUE_HOME_INCONSISTENT or E_CATALOGUE_RANGE, with file, row and field.
        """
        if not self.rows:
            where = ", ".join(name for _, name in self.files) or "the outlet catalogue"
            raise InputError("E_CATALOGUE_EMPTY", "it has no rows", where=where, next_step=RESTORE)
        positions = np.arange(len(self.codes), dtype=np.int16) if iso is None else self._positions(iso)
        if self.numbering is not None:
            raise self.numbering.error("E314_SITE_ORDER_INTEGRITY")
        self._require_keys()
        self._require_values()
        return OutletCatalogue(
            iso=self.codes if iso is None else iso,
            merchant_id=self.merchant_id,
            country=positions[self.country],
            n_sites=self.stated_count,
            home_country=positions[self.home_country],
            raw_outlet_draw=self.raw_outlet_draw,
            seed=seed,
        )

    def _positions(self, iso: tuple[str, ...]) -> npt.NDArray[np.int16]:
        """Place of every code in `iso`."""
        known = {code: index for index, code in enumerate(iso)}
        for number, code in enumerate(self.codes):
            if code not in known:
                at = np.flatnonzero((self.country == number) | (self.home_country == number))[0]
                field = "legal_country_iso" if self.country[at] == number else "home_country_iso"
                raise InputError(
                    "E302_FK_COUNTRY",
                    f"country {code!r} is not in the world's country table",
                    where=self.where(int(self.first_row[at]), field),
                    next_step="use a world that has this country",
                )
        return np.array([known[code] for code in self.codes], np.int16)

    def _require_keys(self) -> None:
        """Runs must be pairs, ascending."""
        merchant, country = self.merchant_id, self.country
        same = merchant[1:] == merchant[:-1]
        ascends = (merchant[1:] > merchant[:-1]) | (same & (country[1:] > country[:-1]))
        if bool(ascends.all()):
            return
        order = np.lexsort((country, merchant))
        again = (np.diff(merchant[order]) == 0) & (np.diff(country[order]) == 0)
        if again.any():
            run = int(order[1:][again].min())
            what = "a pair of merchant and country occurs twice"
            raise self._fault("E307_PK_DUPLICATE", what, run, "merchant_id, legal_country_iso")
        run = int(np.flatnonzero(~ascends)[0]) + 1
        what = "rows are not ascending by merchant_id, legal_country_iso"
        raise self._fault("E310_UNSORTED", what, run, "merchant_id, legal_country_iso")

    def _require_values(self) -> None:
        wrong = np.flatnonzero(self.stated_count != self.n_rows)
        if wrong.size:
            run = int(wrong[0])
            what = (
                f"final_country_outlet_count is {self.stated_count[run]}, not the number of the pair's rows, "
                f"{self.n_rows[run]}"
            )
            raise self._fault("E308_COUNTS_MISMATCH", what, run, "final_country_outlet_count")
        if self.counting is not None:
            raise self.counting.error("E308_COUNTS_MISMATCH")
        if self.constancy is not None:
            raise self.constancy.error("E_EGRESS_HASH_MISMATCH")
        merchant, home = self.merchant_id, self.home_country
        wrong = np.flatnonzero((merchant[1:] == merchant[:-1]) & (home[1:] != home[:-1]))
        if wrong.size:
            what = f"merchant {merchant[wrong[0]]} has more than one home"
            raise self._fault("E_CATALOGUE_HOME_INCONSISTENT", what, int(wrong[0]) + 1, "home_country_iso")
        if merchant[0] == 0:
            raise self._fault("E_CATALOGUE_RANGE", "merchant_id is 0; it counts from 1", 0, "merchant_id")
        large = np.flatnonzero(self.stated_count > MAX_SITES_PER_PAIR)
        if large.size:
            what = f"a pair has {self.stated_count[large[0]]} outlets; {MAX_SITES_PER_PAIR} is the most"
            raise self._fault("E_CATALOGUE_RANGE", what, int(large[0]), "final_country_outlet_count")

    def _fault(self, code: str, what: str, run: int, field: str) -> InputError:
        return RowFault(what, self.where(int(self.first_row[run]), field)).error(code)


class RunCollapser:
    """Takes in the rows of an outlet catalogue in order, in batches of any size, and keeps their runs."""

    def __init__(self) -> None:
        self._rows = 0
        self._files: list[tuple[int, str]] = []
        self._number_of: dict[str, int] = {}
        self._site_ids: tuple[pa.Array, npt.NDArray[np.int32]] | None = None
        self._last: dict[str, Any] = {}
        self._faults: dict[str, RowFault] = {}
        self._runs: list[dict[str, npt.NDArray[Any]]] = []

    def begin(self, file: str) -> None:
        """The rows that follow come from this file."""
        self._files.append((self._rows, file))

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows with at least `ROW_COLUMNS`. Raises InputError E305_SCHEMA_INVALID for a missing value."""
        if batch.num_rows == 0:
            return
        self._require_values(batch)
        columns: dict[str, npt.NDArray[Any]] = {
            "merchant_id": numbers_of(batch.column("merchant_id")),
            "legal_country_iso": self._countries(batch.column("legal_country_iso")),
            **{name: self._pair_column(batch, name) for name in _OF_A_PAIR},
        }
        order = numbers_of(batch.column("site_order"))
        first = self._changed(columns, "merchant_id") | self._changed(columns, "legal_country_iso")
        first |= order == 1
        before = np.empty_like(order)
        before[0], before[1:] = self._last.get("site_order", 0), order[:-1]
        expected = np.where(first, order.dtype.type(1), before + 1)
        self._note("site_order", order != expected, lambda row: (
            f"site_order is {order[row]} where {expected[row]} must follow: it is not 1..n in every pair"
        ))  # fmt: skip
        named = self._numbers_of_site_ids(batch.column("site_id"))
        self._note("site_id", named != order, lambda row: (
            f"site_id {batch.column('site_id')[row].as_py()!r} is not the zero-filled site_order {order[row]}"
        ))  # fmt: skip
        for name in _OF_A_PAIR:
            self._note(
                name, self._changed(columns, name) & ~first, lambda _, n=name: f"{n} changes within a pair"
            )
        self._note_flags(batch)
        start = np.flatnonzero(first)
        runs = {name: values[start] for name, values in columns.items()}
        self._runs.append({**runs, "first_row": start + self._rows})
        self._last = {name: values[-1] for name, values in columns.items()} | {"site_order": order[-1]}
        self._rows += batch.num_rows

    def finish(self) -> OutletRuns:
        """The runs of all rows so far."""

        def joined(name: str, dtype: Any) -> npt.NDArray[Any]:
            return np.concatenate([np.empty(0, dtype), *(run.pop(name) for run in self._runs)])

        country, home = joined("legal_country_iso", np.int16), joined("home_country_iso", np.int16)
        used = np.bincount(country, minlength=_MAX_CODES) + np.bincount(home, minlength=_MAX_CODES) > 0
        codes = tuple(sorted(code for code, number in self._number_of.items() if used[number]))
        place = np.empty(_MAX_CODES, np.int16)
        place[[self._number_of[code] for code in codes]] = np.arange(len(codes))
        faults = self._faults
        return OutletRuns(
            codes=codes,
            merchant_id=joined("merchant_id", np.uint64),
            country=place[country],
            home_country=place[home],
            raw_outlet_draw=joined("raw_nb_outlet_draw", np.int32),
            stated_count=joined("final_country_outlet_count", np.int32),
            first_row=joined("first_row", np.int64),
            rows=self._rows,
            files=tuple(self._files),
            numbering=faults.get("site_order"),
            naming=faults.get("site_id"),
            counting=faults.get("final_country_outlet_count"),
            constancy=faults.get("home_country_iso", faults.get("raw_nb_outlet_draw")),
            flagging=faults.get(MULTI_FLAG),
        )

    def _require_values(self, batch: pa.RecordBatch) -> None:
        for name in ROW_COLUMNS:
            if batch.column(name).null_count:
                missing = batch.column(name).is_null().to_numpy(zero_copy_only=False)
                row = self._rows + int(np.flatnonzero(missing)[0])
                where = _place(tuple(self._files), row, name)
                raise RowFault("the value is missing", where).error("E305_SCHEMA_INVALID")

    def _pair_column(self, batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
        values = batch.column(name)
        return self._countries(values) if name == "home_country_iso" else numbers_of(values)

    def _changed(self, columns: dict[str, npt.NDArray[Any]], name: str) -> Flags:
        """Rows that differ from the row before; the very first one does."""
        values = columns[name]
        changed = np.empty(len(values), np.bool_)
        changed[0] = name not in self._last or values[0] != self._last[name]
        np.not_equal(values[1:], values[:-1], out=changed[1:])
        return changed

    def _note(self, field: str, wrong: Flags, what: Any) -> None:
        """Remember the first row of a field that is wrong."""
        if field not in self._faults and wrong.any():
            row = int(wrong.argmax())
            self._faults[field] = RowFault(what(row), _place(tuple(self._files), self._rows + row, field))

    def _note_flags(self, batch: pa.RecordBatch) -> None:
        """Compared by Arrow: its booleans are bits, and only pandas would unpack them."""
        if MULTI_FLAG not in batch.schema.names:
            return
        flag, draw = batch.column(MULTI_FLAG), batch.column("raw_nb_outlet_draw")
        right = pc.equal(flag, pc.greater(draw, 1))
        if flag.null_count or not pc.all(right).as_py():
            wrong = ~np.array(right.fill_null(False).to_pylist())
            self._note(MULTI_FLAG, wrong, lambda row: (
                f"{MULTI_FLAG} is {flag[row].as_py()} where {draw[row].as_py()} outlets were drawn"
            ))  # fmt: skip

    def _countries(self, column: pa.Array) -> npt.NDArray[np.int16]:
        """Provisional numbers of country codes, in the order in which they were met."""
        encoded = as_dictionary(column)
        numbers = [
            self._number_of.setdefault(code, len(self._number_of)) for code in encoded.dictionary.to_pylist()
        ]
        if len(self._number_of) > _MAX_CODES:
            what = f"there are more than {_MAX_CODES} different country codes"
            raise RowFault(what, self._files[-1][1]).error("E302_FK_COUNTRY")
        found: npt.NDArray[np.int16] = np.array(numbers, np.int16)[numbers_of(encoded.indices)]
        return found

    def _numbers_of_site_ids(self, column: pa.Array) -> npt.NDArray[np.int32]:
        """What site_ids count, -1 for a text that is not six digits. Batches of a file tend to share a dictionary."""
        encoded = as_dictionary(column)
        if self._site_ids is None or not self._site_ids[0].equals(encoded.dictionary):
            self._site_ids = encoded.dictionary, numbers_of_site_ids(encoded.dictionary)
        found: npt.NDArray[np.int32] = self._site_ids[1][numbers_of(encoded.indices)]
        return found


def _place(files: tuple[tuple[int, str], ...], row: int, field: str) -> str:
    first, name = next(entry for entry in reversed(files) if entry[0] <= row)
    return f"{name}, row {row - first + 1}, field {field}"


def as_dictionary(column: pa.Array) -> pa.DictionaryArray:
    """Texts by dictionary, if they do not come so."""
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def numbers_of_site_ids(texts: pa.Array) -> npt.NDArray[np.int32]:
    """Texts of exactly six digits as numbers, -1 for others."""
    sound = pc.match_substring_regex(texts, f"^[0-9]{{{_SITE_ID_LENGTH}}}$")
    numbers: npt.NDArray[np.int32] = numbers_of(
        pc.if_else(sound, texts, pa.scalar("-1", texts.type)).cast(pa.int32())
    )
    return numbers
