"""The two forms of exported files. Both take rows in pages and give the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from adapters.database.landing.kinds import Form
from engine.errors import ConfigError

Columns = Sequence[tuple[str, Form]]
DIGITS, SCALE = 38, 12
_EXACTLY: Final = Context(prec=DIGITS, traps=[Inexact, InvalidOperation])
_LEAST: Final = Decimal(1).scaleb(-SCALE)


class Writing(Protocol):
    """One file under way."""

    def add(self, rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None: ...


class Parquet:
    """Decimals as DECIMAL(38, 12), exact or NULL (the text column beside it is exact always); moments as microseconds UTC; JSON as text."""

    suffix: Final = "parquet"

    def __init__(self, file: Path, columns: Columns) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise ConfigError("exporting Parquet needs pyarrow: pip install 'meridian[parquet]'") from None
        self._arrow, self._columns = pyarrow, columns
        self._schema = pyarrow.schema([pyarrow.field(name, _arrow_type(pyarrow, form)) for name, form in columns])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        found = [[_fitting(row[index], form) for row in rows] for index, (_, form) in enumerate(self._columns)]
        arrays = [self._arrow.array(values, field.type) for values, field in zip(found, self._schema, strict=True)]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _arrow_type(arrow: Any, form: Form) -> Any:
    return {
        Form.BOOLEAN: arrow.bool_(),
        Form.INTEGER: arrow.int64(),
        Form.NUMERIC: arrow.decimal128(DIGITS, SCALE),
        Form.DAY: arrow.date32(),
        Form.INSTANT: arrow.timestamp("us", tz="UTC"),
    }.get(form, arrow.string())


def _fitting(value: Any, form: Form) -> Any:
    if form is not Form.NUMERIC or value is None:
        return value
    try:
        return value.quantize(_LEAST, context=_EXACTLY)
    except (Inexact, InvalidOperation):
        return None


class Lines:
    """One JSON object to a line; decimals are numbers with all their digits, JSON is JSON."""

    suffix: Final = "ndjson"

    def __init__(self, file: Path, columns: Columns) -> None:
        self._columns = columns
        self._file = file.open("wb")

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            made = {name: _plain(value, form) for (name, form), value in zip(self._columns, row, strict=True) if value is not None}
            self._file.write(orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()


def _plain(value: Any, form: Form) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
    if isinstance(value, date):
        return value.isoformat()
    return orjson.Fragment(value) if form is Form.JSON else value


FORMATS: Final[dict[str, type[Parquet | Lines]]] = {"parquet": Parquet, "ndjson": Lines}
