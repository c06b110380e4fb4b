"""Map accepted rows of a date to silver rows, one per key, with values of the tables' types."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Optional

from tests.oracle import texts
from tests.oracle.contracts import Landed, Table, Values

Key = tuple[Any, ...]
COMPLETE_TABLES = {"customers", "products", "reviews"}
"""Tables whose key and version are a declared primary key of a landing entity, so that collisions reject the date."""


def silver_rows(
    accepted: Landed, contracts: dict[str, Table], day: date, key: bytes, shop: str
) -> tuple[dict[str, list[Values]], list[str]]:
    """Return the newest row of each key for each silver table, and the reasons to reject the date.

    Rows without a version have the date's midnight as version. Of two rows with one version the later row of the file counts,
    unless the landing contract promises that they are equal.
    """
    found, reasons, midnight = {}, [], texts.local_midnight(day.isoformat(), shop)
    for name, contract in contracts.items():
        newest: dict[Key, tuple[tuple[Any, ...], Values]] = {}
        first: dict[Key, Values] = {}
        for row, address in _MAPPINGS[name](accepted, lambda text: pseudonymize(text, key)):
            row.setdefault("version_at", midnight)
            row["landed_on"] = day
            if name == "orders":
                row["order_date"] = texts.local_day(row["ordered_at"], shop)
            values = to_stored_row(row, contract)
            key_values, rank = key_of(values, contract), (row["version_at"], *address)
            if name in COMPLETE_TABLES and first.setdefault((key_values, row["version_at"]), values) != values:
                reasons.append(f"{name}: landed rows of one key and version say the same")
            if key_values not in newest or rank > newest[key_values][0]:
                newest[key_values] = (rank, values)
        found[name] = [values for _, values in newest.values()]
    return found, reasons


def key_of(values: Values, contract: Table) -> Key:
    """Return the primary key of a row."""
    return tuple(values[each["name"]] for each in contract["properties"] if each.get("primaryKey"))


def to_stored_row(row: Values, contract: Table) -> Values:
    """Return a row with the types of its table; a value that its column cannot hold is None."""
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
    """Return the pseudonym of a customer id."""
    return hmac.digest(key, text.encode(), "sha256").hex()[:32] if text else None


MappedRows = Iterator[tuple[Values, tuple[str, int]]]
Pseudonym = Callable[[Optional[str]], Optional[str]]


def _orders(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
    for row in accepted["orders"]:
        value = row.values
        same = ("order_id", "ordered_at", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at")
        yield (
            {
                **{name: value[name] for name in same},
                **{name: value[f"ship_{name}"] for name in ("country", "state", "city")},
                "customer_key": pseudonym(value["customer_id"]),
                "status": value["status"].lower(),
                "version_at": value["updated_at"],
            },
            row.address,
        )


def _order_items(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
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


def _customers(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
    for row in accepted["customers"]:
        places = {name: row.values[name] for name in ("country", "state", "city")}
        yield (
            {"customer_key": pseudonym(row.values["customer_id"]), **places, "version_at": row.values["updated_at"]},
            row.address,
        )


def _products(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
    # A category with two rows gives each of its products twice, like a join in SQL.
    names: dict[str, list[str]] = defaultdict(list)
    for row in accepted["categories"]:
        names[row.values["category_id"]].append(row.values["category_name"])
    for row in accepted["products"]:
        value = row.values
        for category in names.get(value["category_id"], [None]):
            yield {**value, "category": category, "version_at": value["updated_at"]}, row.address


def _payments(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
    for row in accepted["payments"]:
        yield {**row.values, "method": row.values["method"].lower()}, row.address


def _reviews(accepted: Landed, pseudonym: Pseudonym) -> MappedRows:
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
