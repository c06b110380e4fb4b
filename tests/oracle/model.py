"""Build silver rows from accepted rows, one row per key."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Optional

from tests.oracle import texts
from tests.oracle.contracts import Landed, Table, Values

Key = tuple[Any, ...]
COMPLETE_TABLES = {"customers", "products", "reviews"}
"""Tables whose key and version are the primary key of an entity in the landing contract, without a rule of lower severity."""


def silver_rows(
    accepted: Landed, contracts: dict[str, Table], day: date, key: bytes, shop: str
) -> tuple[dict[str, list[Values]], list[str]]:
    """Return the silver rows of a date's landing by table, the newest of each key, and the findings.

    Rows without a version have that of the date's midnight. Of two rows with one version the later one in the file counts,
    unless the landing contract requires that they are equal.
    """
    found, against, midnight = {}, [], texts.local_midnight(day.isoformat(), shop)
    for name, contract in contracts.items():
        newest: dict[Key, tuple[tuple[Any, ...], Values]] = {}
        values_by_key: dict[Key, Values] = {}
        for row, address in _MAPPINGS[name](accepted, lambda text: pseudonymize(text, key)):
            row.setdefault("version_at", midnight)
            row["landed_on"] = day
            if name == "orders":
                row["order_date"] = texts.local_day(row["ordered_at"], shop)
            values = to_stored_row(row, contract)
            mine, rank = key_of(values, contract), (row["version_at"], *address)
            if name in COMPLETE_TABLES and values_by_key.setdefault((mine, row["version_at"]), values) != values:
                against.append(f"{name}: landed rows of one key and version say the same")
            if mine not in newest or rank > newest[mine][0]:
                newest[mine] = (rank, values)
        found[name] = [values for _, values in newest.values()]
    return found, against


def key_of(values: Values, contract: Table) -> Key:
    """Return the primary key of a row."""
    return tuple(values[each["name"]] for each in contract["properties"] if each.get("primaryKey"))


def to_stored_row(row: Values, contract: Table) -> Values:
    """Return a row with the stored types of its table. A value that a type cannot hold is null."""
    return {each["name"]: _to_stored_value(row.get(each["name"]), each["physicalType"]) for each in contract["properties"]}


def _to_stored_value(value: Any, physical: str) -> Any:
    if physical == "BIGINT":
        return value if value is None or -(2**63) <= value < 2**63 else None
    if physical.startswith("DECIMAL") and value is not None:
        digits, places = map(int, physical[8:-1].split(","))
        rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        return rounded if abs(rounded) < Decimal(10) ** (digits - places) else None
    return value


def pseudonymize(text: Optional[str], key: bytes) -> Optional[str]:
    """Return the pseudonym of a customer's number."""
    return hmac.digest(key, text.encode(), "sha256").hex()[:32] if text else None


MappedRows = Iterator[tuple[Values, tuple[str, int]]]
Pseudonym = Callable[[Optional[str]], Optional[str]]


def _orders(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    for row in accepted["orders"]:
        value = row.values
        same = ("order_id", "ordered_at", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at")
        yield (
            {
                **{name: value[name] for name in same},
                **{name: value[f"ship_{name}"] for name in ("country", "state", "city")},
                "customer_key": known_as(value["customer_id"]),
                "status": value["status"].lower(),
                "version_at": value["updated_at"],
            },
            row.address,
        )


def _order_items(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    for row in accepted["order_items"]:
        yield {**row.values, "line_amount": row.values["quantity"] * row.values["unit_price"], "is_return": False}, row.address
    for row in accepted["returns"]:
        value = row.values
        yield (
            {
                **{name: value[name] for name in ("order_id", "product_id", "unit_price")},
                "line_number": 1000 + int(value["return_id"][2:]),
                "quantity": -value["quantity"],
                "line_amount": -value["quantity"] * value["unit_price"],
                "is_return": True,
                "version_at": value["returned_at"],
                "returned_at": value["returned_at"],
            },
            row.address,
        )


def _customers(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    for row in accepted["customers"]:
        places = {name: row.values[name] for name in ("country", "state", "city")}
        yield (
            {"customer_key": known_as(row.values["customer_id"]), **places, "version_at": row.values["updated_at"]},
            row.address,
        )


def _products(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    names = {row.values["category_id"]: row.values["category_name"] for row in accepted["categories"]}
    for row in accepted["products"]:
        value = row.values
        category = names.get(value["category_id"])
        yield {**value, "category": category, "version_at": value["updated_at"]}, row.address


def _payments(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    for row in accepted["payments"]:
        yield {**row.values, "method": row.values["method"].lower()}, row.address


def _reviews(accepted: Landed, known_as: Pseudonym) -> MappedRows:
    for row in accepted["reviews"]:
        yield dict(row.values), row.address


_MAPPINGS: dict[str, Callable[[Landed, Pseudonym], MappedRows]] = {
    "orders": _orders,
    "order_items": _order_items,
    "customers": _customers,
    "products": _products,
    "payments": _payments,
    "reviews": _reviews,
}
