"""Read a user's table and turn its columns into numbers and country indices, with the row of the first fault.

Text files are read as text throughout: no guessing of types, no words that mean null. That is how "NA" stays
Namibia.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from seg1b.errors import InputError
from seg1b.policy.validate import did_you_mean
from seg1b.store.digest import arrow_of, numbers_of

_PARQUET_SUFFIXES: Final = (".parquet", ".pq")
_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt")
_DELIMITERS: Final = (",", ";", "\t")
_EXACT_IN_A_DOUBLE: Final = 2.0**53
_DIGITS_IN_64_BITS: Final = 19
_RENAMED_COUNTRIES: Final = {"UK": "GB", "EL": "GR", "TP": "TL", "ZR": "CD", "BU": "MM", "YU": "RS"}
_NAMIBIA_HINT: Final = (
    "fill in the ISO code; if it was Namibia, the reader that wrote this file took 'NA' for a missing value: "
    "write it anew with null detection off (pandas: keep_default_na=False)"
)


@dataclass(frozen=True)
class SourceTable:
    """A table as it was read: columns by canonical name, and what to call a row in an error."""

    path: Path
    table: pa.Table
    is_text: bool

    @property
    def names(self) -> list[str]:
        """Column names, canonical, in file order."""
        names: list[str] = self.table.column_names
        return names

    @property
    def rows(self) -> int:
        """Number of data rows."""
        return int(self.table.num_rows)

    def where(self, row: int | None = None, field: str | None = None) -> str:
        """`file, row 3 (line 4), field x`; rows count from 1 without the header."""
        text = str(self.path)
        if row is not None:
            text += f", row {row + 1}" + (f" (line {row + 2})" if self.is_text else "")
        return text + (f", field {field}" if field else "")

    def integers(self, field: str, low: int, high: int) -> npt.NDArray[np.uint64]:
        """u64[n] in [low, high]. Raises InputError E_CATALOGUE_TYPE, E_CATALOGUE_NULL, E_CATALOGUE_RANGE."""
        column = self.table.column(field).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = self._parsed_text(column, field)
        self._refuse_nulls(column, field)
        if pa.types.is_floating(column.type):
            column = self._whole_floats(column, field)
        if not pa.types.is_integer(column.type):
            raise fault(
                self,
                "E_CATALOGUE_TYPE",
                f"the column holds {column.type}, whole numbers are needed",
                None,
                field,
                "store the column as an integer type",
            )
        values = numbers_of(column)
        outside = np.flatnonzero((values < low) | (values > high))
        if outside.size:
            row = int(outside[0])
            raise fault(
                self,
                "E_CATALOGUE_RANGE",
                f"{field} is {values[row]}, it must lie in {low}..{high}",
                row,
                field,
                "correct the value; a country without outlets has no row",
                count=outside.size,
            )
        unsigned: npt.NDArray[np.uint64] = values.astype(np.uint64, copy=False)
        return unsigned

    def countries(self, field: str, iso: tuple[str, ...]) -> npt.NDArray[np.int16]:
        """i16[n] positions in `iso`. Raises InputError E_CATALOGUE_NULL_COUNTRY, E302_FK_COUNTRY,
        E_CATALOGUE_TYPE.
        """
        column = self.table.column(field).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count < len(column) and not (
            pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        ):
            message = f"the column holds {column.type}, two-letter country codes are needed"
            raise fault(self, "E_CATALOGUE_TYPE", message, None, field, "store the column as text")
        known = _two_letters(column, iso)
        return self._read_countries(column, field, iso) if known is None else known

    def _read_countries(self, column: pa.Array, field: str, iso: tuple[str, ...]) -> npt.NDArray[np.int16]:
        """Codes with blanks as positions, or the row that is none."""
        pc = _functions()
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        empty = _rows_where(pc.or_kleene(pc.is_null(text), pc.equal(text, "")))
        if empty.size:
            message = "the country is missing"
            raise fault(
                self,
                "E_CATALOGUE_NULL_COUNTRY",
                message,
                int(empty[0]),
                field,
                _NAMIBIA_HINT,
                count=empty.size,
            )
        index = pc.index_in(text, value_set=pa.array(iso, pa.string()))
        unknown = _rows_where(pc.is_null(index))
        if unknown.size:
            row = int(unknown[0])
            raise fault(
                self,
                "E302_FK_COUNTRY",
                _unknown_country(text[row].as_py(), iso),
                row,
                field,
                "use ISO 3166-1 alpha-2 codes of the world's country table",
                count=unknown.size,
            )
        positions: npt.NDArray[np.int16] = numbers_of(index).astype(np.int16)
        return positions

    def _refuse_nulls(self, column: pa.Array, field: str) -> None:
        if column.null_count:
            missing = _rows_where(_functions().is_null(column))
            step = "fill in the value or remove the row"
            raise fault(
                self,
                "E_CATALOGUE_NULL",
                "the value is missing",
                int(missing[0]),
                field,
                step,
                count=missing.size,
            )

    def _parsed_text(self, column: pa.Array, field: str) -> pa.Array:
        """Text as integers; empty text is a missing value."""
        digits = _digits(column)
        plain = _plain_digits(column) if digits is None else arrow_of(digits)
        return self._read_carefully(column, field) if plain is None else plain

    def _read_carefully(self, column: pa.Array, field: str) -> pa.Array:
        """Text with blanks or signs as integers, or the row that is none."""
        pc = _functions()
        text = pc.utf8_trim_whitespace(column)
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
        self._refuse_nulls(text, field)
        number = pc.match_substring_regex(text, r"^[+-]?[0-9]+$")
        wrong = _rows_where(pc.invert(number))
        if wrong.size:
            message = f"{text[int(wrong[0])].as_py()!r} is not a whole number"
            step = "write digits only, without separators or decimals"
            raise fault(self, "E_CATALOGUE_TYPE", message, int(wrong[0]), field, step, count=wrong.size)
        negative = _rows_where(pc.starts_with(text, "-"))
        plain = pc.replace_substring_regex(text, r"^[+]?0*([0-9]+)$", r"\1")
        long = _rows_where(pc.greater(pc.utf8_length(plain), 20))
        twenty = pc.equal(pc.utf8_length(plain), 20)
        beyond = pc.and_(twenty, pc.greater_equal(plain, pa.scalar(str(2**64), plain.type)))
        large = _rows_where(beyond)
        bad = np.unique(np.concatenate([negative, long, large]))
        if not bad.size:
            return plain.cast(pa.uint64())
        message = f"{text[int(bad[0])].as_py()} lies outside the whole numbers of 64 bits without a sign"
        step = "correct the value; identifiers and counts are positive"
        raise fault(self, "E_CATALOGUE_RANGE", message, int(bad[0]), field, step, count=bad.size)

    def _whole_floats(self, column: pa.Array, field: str) -> pa.Array:
        """Floats that are whole numbers (a habit of data frames with gaps) as integers; others are
        refused.
        """
        values = numbers_of(column)
        wrong = np.flatnonzero(~((values == np.floor(values)) & (np.abs(values) <= _EXACT_IN_A_DOUBLE)))
        if wrong.size:
            message = f"{values[wrong[0]]!r} is not an exact whole number"
            step = "store the column as an integer type: a double holds identifiers up to 2^53 only"
            raise fault(self, "E_CATALOGUE_TYPE", message, int(wrong[0]), field, step, count=wrong.size)
        return pa.array(values.astype(np.int64))


def _rows_where(flags: pa.Array) -> npt.NDArray[np.int64]:
    """Rows where a column of booleans is true, ascending; Arrow's `to_numpy` would import pandas."""
    return numbers_of(_functions().indices_nonzero(flags)).astype(np.int64)


def _functions() -> Any:
    """Arrow's functions: to load them takes longer than to read most catalogues, and few need them."""
    import pyarrow.compute

    return pyarrow.compute


def _bytes_of(column: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]] | None:
    """The bytes of text without nulls, and where each of n texts begins in them, [n + 1]; None for anything else."""
    kinds = {pa.string(): np.int32, pa.large_string(): np.int64}
    if column.null_count or column.type not in kinds:
        return None
    kind = np.dtype(kinds[column.type])
    _, bounds, content = column.buffers()
    start = np.frombuffer(bounds, kind, len(column) + 1, column.offset * kind.itemsize)
    return np.frombuffer(content or b"", np.uint8)[: start[-1]], start


def _digits(column: pa.Array) -> npt.NDArray[np.uint64] | None:
    """Text of 1 to 19 digits throughout as u64[n]; None if some of it is anything else."""
    found = _bytes_of(column)
    if found is None:
        return None
    content, start = found
    digit, length = content[start[0] :] - np.uint8(ord("0")), np.diff(start)
    if not len(length) or length.min() < 1 or length.max() > _DIGITS_IN_64_BITS or digit.max() > 9:
        return None
    value = np.zeros(len(length), np.uint64)
    for place in range(int(length.max())):
        rows = np.flatnonzero(length > place)
        value[rows] = value[rows] * np.uint64(10) + digit[start[rows] - start[0] + place]
    return value


def _two_letters(column: pa.Array, iso: tuple[str, ...]) -> npt.NDArray[np.int16] | None:
    """Positions in `iso` i16[n] of text that is a code of two letters throughout; None if some of it is none."""
    found = _bytes_of(column)
    if found is None or (np.diff(found[1]) != 2).any():
        return None
    content, start = found
    codes = {code: place for place, code in enumerate(iso) if len(code) == 2 and code.isascii()}
    position = np.full(1 << 16, -1, np.int16)
    position[np.frombuffer("".join(codes).encode(), ">u2")] = list(codes.values())
    known = position[content[start[0] :].view(">u2")]
    return None if (known < 0).any() else known


def _plain_digits(column: pa.Array) -> pa.Array | None:
    """Text that is digits throughout as integers; None if some of it is not (Arrow would take 0x1F for a number)."""
    pc = _functions()
    if any(pc.any(pc.match_substring(column, letter)).as_py() for letter in "xX"):
        return None
    try:
        return column.cast(pa.uint64())
    except pa.ArrowInvalid:
        return None


def fault(
    source: SourceTable, code: str, message: str, row: int | None, field: str, next_step: str, count: int = 1
) -> InputError:
    """The error for the first of `count` faulty rows; `row` counts from 0."""
    more = f" ({count} rows in all)" if count > 1 else ""
    return InputError(code, message + more, where=source.where(row, field), next_step=next_step)


def _unknown_country(code: str, iso: tuple[str, ...]) -> str:
    meant = _RENAMED_COUNTRIES.get(code) or (code.upper() if code.upper() in iso else None)
    hint = f"; did you mean {meant!r}?" if meant else did_you_mean(code, iso) if len(code) > 2 else ""
    return f"country {code!r} is not in the world's country table{hint}"


# Files


def read_source(path: Path, aliases: Mapping[str, str]) -> SourceTable:
    """Read a Parquet or text table; column names are trimmed, and aliases replaced by the names they stand for.

    Raises InputError E_CATALOGUE_*: no such file, an ending that names no format, unreadable content, no rows, or two
    columns of one meaning.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            "E_CATALOGUE_FILE_MISSING",
            f"the catalogue {what}",
            where=str(path),
            next_step="name a .parquet or .csv file",
        )
    if path.stat().st_size == 0:
        raise _empty(path, "the file is empty")
    if suffix not in (*_PARQUET_SUFFIXES, *_TEXT_SUFFIXES):
        raise InputError(
            "E_CATALOGUE_FORMAT_UNKNOWN",
            f"the ending {suffix!r} names no format that is read here",
            where=str(path),
            next_step="store the catalogue as .parquet, .csv or .tsv",
        )
    is_text = suffix in _TEXT_SUFFIXES
    table = _read_text(path) if is_text else _read_parquet(path)
    if table.num_rows == 0:
        raise _empty(path, "the file has a header but no rows")
    names = [name.strip() for name in table.column_names]
    canonical = [aliases.get(name, name) for name in names]
    for name in canonical:
        if canonical.count(name) > 1:
            both = [original for original, meant in zip(names, canonical, strict=True) if meant == name]
            raise InputError(
                "E_CATALOGUE_COLUMN_DUPLICATE",
                f"the columns {', '.join(both)} mean the same",
                where=str(path),
                next_step="keep one of them",
            )
    return SourceTable(path, table.rename_columns(canonical), is_text)


def _empty(path: Path, what: str) -> InputError:
    step = "give at least one merchant with one outlet"
    return InputError("E_CATALOGUE_EMPTY", what, where=str(path), next_step=step)


def _unreadable(path: Path, error: Exception, step: str) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError("E_CATALOGUE_UNREADABLE", f"cannot be read: {reason}", where=str(path), next_step=step)


def _read_parquet(path: Path) -> pa.Table:
    try:  # `read_table` would load all of Arrow's datasets
        with pq.ParquetFile(path, pre_buffer=False) as file:
            return file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        step = "the file is truncated or not Parquet: write or copy it again"
        raise _unreadable(path, error, step) from error


def _read_text(path: Path) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline().removeprefix(b"\xef\xbb\xbf")
    if not header.strip():
        raise _empty(path, "the first line must name the columns")
    try:
        text = header.decode("utf-8")
        delimiter = max(_DELIMITERS, key=text.count)
        names = [name.strip().strip('"') for name in text.rstrip("\r\n").split(delimiter)]
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[], strings_can_be_null=False
            ),
        )
    except UnicodeDecodeError as error:
        raise _unreadable(path, error, "store the file as UTF-8") from error
    except pa.ArrowException as error:
        if "Empty CSV" in str(error):
            raise _empty(path, "the file has a header but no rows") from error
        raise _unreadable(
            path, error, "correct the line: every row has as many fields as the header"
        ) from error
