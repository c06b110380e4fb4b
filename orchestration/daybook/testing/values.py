"""Convert the texts of a case to values of a column's type without a loss, and values to texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Optional
from zoneinfo import ZoneInfo

import pyarrow as pa

from daybook.contracts.columns import find_column
from daybook.errors import CaseError
from daybook.testing.case import Row, suggest_names
from daybook.testing.matching import Values

_BOOLEANS = {"true": True, "false": False}


def parse_value(text: Optional[str], sql_type: pa.DataType, zone: ZoneInfo) -> Any:
    """Return the value that a text of a case means in a column.

    Parameters
    ----------
    text
        The text as it is written; None for NULL.
    sql_type
        The column's type in Arrow.
    zone
        The shop's time zone, of times without an offset.

    Raises
    ------
    ValueError
        The text is not a value of this type. The message names the accepted form.
    """
    if text is None or pa.types.is_string(sql_type):
        return text
    if pa.types.is_integer(sql_type) or pa.types.is_decimal(sql_type) or pa.types.is_floating(sql_type):
        return _parse_number(text, sql_type)
    if pa.types.is_boolean(sql_type):
        if text.lower() not in _BOOLEANS:
            raise ValueError("write true or false")
        return _BOOLEANS[text.lower()]
    if pa.types.is_date(sql_type):
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise ValueError("write a date as YYYY-MM-DD") from None
    if pa.types.is_timestamp(sql_type):
        return _parse_time(text, zone if sql_type.tz else None)
    raise ValueError(f"a case cannot have values of type {sql_type}")


def build_table(name: str, rows: Sequence[Row], schema: pa.Schema, zone: ZoneInfo) -> pa.Table:
    """Return given rows with the columns of the input. ``CaseError`` names a column or a value that does not fit."""
    parsed = [parse_row(f"given {name}, row {number}", row, schema, zone) for number, row in enumerate(rows, start=1)]
    arrays = []
    for field in schema:
        try:
            arrays.append(pa.array([row.get(field.name) for row in parsed], field.type))
        except (pa.ArrowInvalid, OverflowError):
            raise CaseError(
                f"given {name}: a value of {field.name} does not fit {field.type}; write it with fewer digits."
            ) from None
    return pa.Table.from_arrays(arrays, schema=schema)


def parse_row(where: str, row: Row, schema: pa.Schema, zone: ZoneInfo) -> Values:
    """Return the typed values of a row by the names of the columns."""
    values = {}
    for name, text in row.items():
        column = find_column(schema.names, name)
        if column is None:
            raise CaseError(f"{where}: there is no column {name!r}; {suggest_names(name, schema.names)}")
        try:
            values[column] = parse_value(text, schema.field(column).type, zone)
        except ValueError as error:
            raise CaseError(f"{where}: column {column!r} is {text!r}; {error}.") from None
    return values


def infer_value(text: Optional[str]) -> Any:
    """Return the value of a parameter that has no declared type: a number, a date, true or false, or the text itself."""
    if text is None or text in _BOOLEANS:
        return None if text is None else _BOOLEANS[text]
    for parse in (int, Decimal, date.fromisoformat):
        with suppress(ValueError, InvalidOperation):
            return parse(text)
    return text


def _parse_number(text: str, sql_type: pa.DataType) -> Any:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("write a number") from None
    if not number.is_finite():
        raise ValueError("write a finite number")
    if pa.types.is_floating(sql_type):
        return float(number)
    if pa.types.is_decimal(sql_type):
        return number
    if number != int(number):
        raise ValueError("write a whole number")
    return int(number)


def _parse_time(text: str, zone: Optional[ZoneInfo]) -> datetime:
    """Return an instant (UTC), or without a zone a local time."""
    try:
        # Python before 3.11 does not read Z.
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ValueError("write a time as YYYY-MM-DD HH:MM:SS+HH:MM") from None
    if zone is None:
        return time
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
        if time.utcoffset() != time.replace(fold=1).utcoffset():
            raise ValueError(f"clocks change in {zone.key} at this time; add the offset, such as +02:00")
    # Python compares times of one zone by the clock, which shows some times twice.
    return time.astimezone(timezone.utc)


def normalize_value(value: Any) -> Any:
    """Return a value of a result so that equal ones compare equal: instants in UTC."""
    return value.astimezone(timezone.utc) if isinstance(value, datetime) and value.tzinfo is not None else value


def format_value(value: Any, zone: ZoneInfo) -> str:
    """Return a value as a case writes it: exact, with times in the shop's zone."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        return (value.astimezone(zone) if value.tzinfo else value).isoformat(sep=" ")
    return str(value)
