"""Stage 3: accepted rows become rows of the canonical model, merged into silver by key; the newest version wins."""

from __future__ import annotations

from datetime import date
from functools import partial

import pyarrow as pa

from daybook.contracts import Table, load_tables
from daybook.contracts.columns import column_key
from daybook.errors import SourceError, SqlError
from daybook.lake.merge import DERIVED_COLUMN, RowChanges, merge
from daybook.notebook.approval import apply_approval
from daybook.notebook.context import Stage
from daybook.notebook.conversions import find_raising_value, find_unconvertible_values
from daybook.notebook.display import Listing
from daybook.notebook.stale_dates import LANDED_DATES, list_stale_dates, mark_stale_dates
from daybook.notebook.validate import define_accepted_rows, format_rules, record_rules
from daybook.quality import (
    MAX_SAMPLES,
    Finding,
    GateResult,
    RuleResult,
    check_contract,
    format_warnings,
    gate_broken_rules,
    sample_sql,
)
from daybook.sources import mapped_sql
from daybook.sources.config import COMPUTED_COLUMNS
from daybook.sources.mapping import are_collisions_errors, find_invalid_expression, merge_group, order_id_sql, quote


def map_to_canonical(stage: Stage) -> Listing:
    """Make the source's rows of the date queryable as ``mapped.<table>``; returns how many rows each entity gave.

    Ends the stage as REJECTED where an expression of the mapping raises on a value.
    """
    stage.details["warnings"] = []
    counts = define_accepted_rows(stage)
    for contract in load_tables("silver").values():
        wrong = find_invalid_expression(stage.source, contract.name)
        if wrong is not None:
            raise SourceError(f"params/sources/{stage.source.name}.yaml: {wrong}.")
        sql = mapped_sql(stage.source, contract.name, stage.run_date)
        try:
            stage.raw_engine.create_table(
                f"mapped.{contract.name}", f"SELECT *, DATE '{stage.day}' AS landed_on FROM ({sql}) AS mapped"
            )
        except SqlError as error:
            raising = find_raising_value(stage.raw_engine, stage.source, contract, sql, error)
            if raising is None:
                raise
            verdict = apply_approval(stage, gate_broken_rules([raising]))
            record_rules(stage, [raising], verdict, broken="rejected")
            stage.reject(verdict.reasons)
            break
    else:
        _warn_of_emptied_orders(stage)
        stage.findings += _check_order_dates(stage)
    return counts


def _check_order_dates(stage: Stage) -> list[Finding]:
    """Refuse a landing that brings orders, and none of its own date.

    Such orders would be another date's revenue. Only the landing counts, so that the verdict is the same in any order of dates.
    """
    days = "SELECT CAST(ordered_at AS DATE) AS order_date FROM mapped.orders WHERE ordered_at IS NOT NULL"
    landed, own, first, last = stage.engine.fetch_row(
        f"SELECT count(*), count_if(order_date = DATE '{stage.day}'), min(order_date), max(order_date) FROM ({days}) AS days"
    )
    if own or not landed:
        return []
    dates = f"{first}" if first == last else f"{first} to {last}"
    text = (
        f"{landed:,} orders landed with {stage.day}, and none was ordered on that date (their order dates are {dates}); "
        "check the time zone and the mapping of ordered_at"
    )
    return [Finding("silver.orders: the landing has orders of its own date", text)]


def _warn_of_emptied_orders(stage: Stage) -> None:
    """Warn of orders whose newest file has no line that counts: their lines of an earlier date stay."""
    for entity, select in stage.source.flat_entities.items():
        orders = f"SELECT DISTINCT {order_id_sql(select)} AS order_id FROM {entity} {select.join}"
        stage.raw_engine.create_table(
            "_emptied",
            f"SELECT order_id FROM ({orders}) AS landed WHERE order_id NOT IN (SELECT order_id FROM mapped.order_items)",
        )
        count, samples = stage.raw_engine.fetch_row(
            f"SELECT count(DISTINCT order_id), min(DISTINCT order_id, {MAX_SAMPLES}) FROM silver.order_items "
            f"WHERE order_id IN (SELECT order_id FROM _emptied) AND landed_on <> DATE '{stage.day}'"
        )
        if count:
            stage.details["warnings"].append(
                f"{entity}: {count:,} {'order has' if count == 1 else 'orders have'} no line in the newest file that the "
                f"mapping keeps ({', '.join(samples)}); lines of an earlier date stay, so map such lines with quantity 0"
            )


def merge_silver(stage: Stage) -> Listing:
    """Hold every silver table that the notebook defines against its contract, merge them, and end the stage. A row that breaks
    a contract stops all of them."""
    contracts = list(load_tables("silver").values())
    rows = {contract.full_name: stage.materialize_table(contract, f"new.{contract.name}") for contract in contracts}
    found_by: list[RuleResult] = []
    for contract in contracts:
        found_by += find_unconvertible_values(stage.engine, f"mapped.{contract.name}", contract)
        found_by += find_unconvertible_values(stage.engine, f"marked.{contract.name}", contract, tuple(contract.key))
        found_by += check_contract(
            stage.engine, f"new.{contract.name}", contract, run_date=stage.run_date, known=_merged_table_sql
        )
    landed = {each.name: int(stage.engine.fetch_row(f"SELECT count(*) FROM mapped.{each.name}")[0]) for each in contracts}
    for contract in contracts:
        # Where every landed row is there, each has a key of its own.
        if landed[contract.name] != rows[contract.full_name]:
            found_by += _find_key_collisions(stage, contract, landed[contract.name])
    stage.details["warnings"] = [*stage.details.get("warnings", []), *format_warnings(found_by)]
    verdict = apply_approval(stage, GateResult(gate_broken_rules(found_by).findings + stage.findings))
    record_rules(stage, found_by, verdict, broken="rejected")
    read = sum(landed.values())
    if not verdict.passed:
        stage.reject(verdict.reasons, rows_in=read)
        return format_rules(found_by)
    # A table that cannot follow its contract stops all of them, too.
    for contract in contracts:
        stage.lake.ensure_table(contract)
    watch = _StaleDateTracker(stage)
    merged = []
    # Orders after the others: what these say of an order is there before the order is. Then customers, who bring along the date
    # of their first order.
    last = ("orders", "customers")
    for contract in sorted(contracts, key=lambda each: last.index(each.name) if each.name in last else -1):
        counts = merge(
            stage.lake,
            contract,
            _add_first_order_dates(stage) if contract.name == "customers" else f"new.{contract.name}",
            landed_on=stage.run_date,
            group=merge_group(stage.source, contract.name),
            before=partial(watch.note, contract),
            database=stage.engine.connection,
        )
        merged.append((contract.full_name, rows[contract.full_name], *counts.values()))
    _update_first_order_dates(stage, load_tables("silver")["silver.customers"])
    stale = watch.mark_remaining()
    landed = pa.table({"orders": pa.array([rows["silver.orders"]], pa.int64())})
    stage.lake.replace_partition(LANDED_DATES, landed, stage.run_date)
    for contract in contracts:
        stage.lake.compact(contract.full_name)
    stage.details["merged"] = {name: dict(zip(("rows", "inserted", "updated", "deleted"), rest)) for name, *rest in merged}
    stage.details["stale_dates"] = [day.isoformat() for day in stale]
    stage.succeed(rows_in=read, rows_out=sum(rows.values()))
    return Listing(["table", "rows", "inserted", "updated", "deleted"], merged)


def _merged_table_sql(table: str) -> str:
    """What a foreign key of a silver table is looked up in: what is there, and what comes with it."""
    return f"(SELECT * FROM {table} UNION ALL SELECT * FROM new.{table.split('.')[1]}) AS known"


def _find_key_collisions(stage: Stage, contract: Table, landed: int) -> list[RuleResult]:
    """The rule that landed rows of one key and one version say the same; nothing where it holds.

    It is an error where the landing contract declares the key.
    """
    table = f"mapped.{contract.name}"
    key = ", ".join(quote(name) for name in contract.key)
    said = ", ".join(quote(name) for name in contract.columns if name not in (*contract.key, *COMPUTED_COLUMNS, "version_at"))
    repeated = f"SELECT {key}, version_at FROM {table} GROUP BY ALL HAVING count(*) > 1"
    found = (
        f"SELECT {key} FROM {table} SEMI JOIN ({repeated}) AS repeated USING ({key}, version_at) "
        f"GROUP BY {key}, version_at HAVING count(DISTINCT ROW({said})) > 1"
    )
    if contract.name == "orders":
        # These are two orders, not two versions of one: both who placed it and when differ.
        found += (
            f" UNION SELECT order_id FROM {table} GROUP BY order_id "
            "HAVING min(customer_key) <> max(customer_key) AND min(ordered_at) <> max(ordered_at)"
        )
    keys = stage.engine.create_table("colliding", f"SELECT DISTINCT {key} FROM ({found}) AS found")
    if not keys:
        return []
    (samples,) = stage.engine.fetch_row(
        f"SELECT min(DISTINCT {sample_sql(contract.key, contract.pseudonyms)}, {MAX_SAMPLES}) FROM colliding"
    )
    has = "key has" if keys == 1 else "keys have"
    return [
        RuleResult(
            contract.full_name,
            "landed rows of one key and version say the same",
            checked=landed,
            failing=keys,
            severity="error" if are_collisions_errors(stage.source, contract.name) else "warning",
            holds=False,
            measured=(
                f"{keys:,} {has} rows that differ ({', '.join(samples)}), of which one counts; "
                "correct the keys of the export, or map a version_at that orders the rows"
            ),
            samples=tuple(samples),
        )
    ]


_RETURN_DATE_SQL = "CAST(returned_at AS DATE) AS order_date"
"""The shop's local day on which a line came back, as SQL; null where the source does not say."""


class _StaleDateTracker:
    """Notes the order dates whose gold the merges of a stage change: exactly those, before each commit and once more after all.

    Dates that run side by side leave no gap: a merge of orders knows the very rows that it replaces. What another table says
    of an order is noted for the date that the order has once it is merged; whoever moves the order after that notes both of
    its dates, and computes them later.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.noted: set[date] = set()
        self._by_return_date = stage.settings.returns_count_on == "return_date"
        self._id_tables: set[str] = set()
        """Where the orders and the products are kept that changes of other tables are about."""

    def note(self, contract: Table, changes: RowChanges) -> None:
        """Note what these changes of a table make stale, before they are made."""
        engine, table = self.stage.engine, contract.name
        # A new version that says the same makes nothing stale.
        silent = {"version_at", "landed_on", DERIVED_COLUMN, *(() if self._by_return_date else ("returned_at",))}
        said = ", ".join(name for name in contract.columns if column_key(name) not in silent)
        if table == "products":
            said = "product_id, category"  # gold has no names
        engine.create_view("changed.before", f"SELECT {said} FROM ({changes.before_sql}) AS before")
        engine.create_view("changed.after", f"SELECT {said} FROM ({changes.after_sql}) AS after")
        differing = "(SELECT * FROM changed.after)"
        if changes.counts["updated"] or changes.counts["deleted"]:
            differing = (
                "((SELECT * FROM changed.before EXCEPT SELECT * FROM changed.after) UNION ALL "
                "(SELECT * FROM changed.after EXCEPT SELECT * FROM changed.before))"
            )
        if table == "orders":
            days = self._find_changed_order_dates(differing)
            if self._by_return_date:
                # Lines that another run merges at the same time are found by the second look, in `note_again`.
                days |= self._find_order_dates(orders=self._more("order_id", differing))
            self._add(days)
        elif table == "products":
            self._add(self._find_order_dates(products=self._more("product_id", differing)))
        elif table != "customers":
            days = self._find_order_dates(orders=self._more("order_id", differing))
            if table == "order_items" and self._by_return_date:
                days |= self._days(f"SELECT {_RETURN_DATE_SQL} FROM {differing} AS differing WHERE is_return")
            self._add(days)

    def _more(self, column: str, differing: str) -> str:
        """A query for the orders or products that a table's changes are about, empty where there are none; they are kept
        beside those of other tables."""
        engine, about = self.stage.engine, f"changed.by_{column}"
        found = engine.create_table("changed.found", f"SELECT DISTINCT {column} FROM {differing} AS differing")
        if not found:
            return ""
        before = f"SELECT * FROM {about} UNION " if about in self._id_tables else ""
        engine.create_table("changed.together", f"{before}SELECT * FROM changed.found")
        engine.create_table(about, "SELECT * FROM changed.together")
        self._id_tables.add(about)
        return "SELECT * FROM changed.found"

    def mark_remaining(self) -> list[date]:
        """Note all of it once more, now that it is merged, with the dates that orders have now; returns what waits in all."""
        waiting = list_stale_dates(self.stage)
        orders, products = (
            f"SELECT * FROM {about}" if about in self._id_tables else ""
            for about in ("changed.by_order_id", "changed.by_product_id")
        )
        self.noted |= self._find_order_dates(orders=orders, products=products)
        mark_stale_dates(self.stage.lake, self.noted, under=self.stage.run_date)
        return sorted(self.noted | waiting)

    def _add(self, days: set[date]) -> None:
        mark_stale_dates(self.stage.lake, days - self.noted, under=self.stage.run_date)
        self.noted |= days

    def _find_changed_order_dates(self, differing: str) -> set[date]:
        """The dates of orders as they were and will be, and of customers' first orders where another becomes the first: these
        two dates gain and lose a new customer, and all others keep theirs."""
        self.stage.engine.refresh("silver.orders")
        return self._days(
            f"""
            WITH either AS (
                SELECT customer_key, order_date AS was,
                    CASE WHEN order_id NOT IN (SELECT order_id FROM changed.before) THEN order_date END AS becomes
                FROM silver.orders
                UNION ALL SELECT customer_key, NULL, order_date FROM changed.after
            ),
            firsts AS (
                SELECT min(was) AS was, min(becomes) AS becomes FROM either
                WHERE customer_key IN (SELECT DISTINCT customer_key FROM {differing} AS differing) GROUP BY customer_key
            ),
            moved AS (SELECT DISTINCT was, becomes FROM firsts WHERE was IS DISTINCT FROM becomes)
            SELECT order_date FROM {differing} AS differing UNION SELECT was FROM moved UNION SELECT becomes FROM moved
            """
        )

    def _find_order_dates(self, *, orders: str = "", products: str = "") -> set[date]:
        """The dates that silver now has for the orders that a query gives, and for orders with a line of such products; where
        returns count on their own date, also the dates of these orders' and products' returns."""
        if not orders and not products:
            return set()
        engine = self.stage.engine
        # Orders first: of an order that comes in after this look, whoever brings it computes its date later.
        for name in ("silver.orders", "silver.order_items"):
            engine.refresh(name)
        asked = []
        if orders:
            asked.append(
                f"SELECT order_date FROM silver.orders WHERE order_id IN ({orders}) AND {engine.range_predicate('order_id', orders)}"
            )
        if products:
            asked.append(
                "SELECT o.order_date FROM silver.orders AS o JOIN silver.order_items AS i ON i.order_id = o.order_id "
                f"WHERE i.product_id IN ({products})"
            )
        if self._by_return_date:
            returned = f"SELECT {_RETURN_DATE_SQL} FROM silver.order_items WHERE is_return"
            if orders:
                asked.append(f"{returned} AND order_id IN ({orders}) AND {engine.range_predicate('order_id', orders)}")
            if products:
                asked.append(f"{returned} AND product_id IN ({products})")
        return self._days(f"SELECT DISTINCT order_date FROM ({' UNION ALL '.join(asked)}) AS found")

    def _days(self, sql: str) -> set[date]:
        """The dates in the only column of a query's rows."""
        return {row[0] for row in self.stage.engine.rows(sql) if row[0] is not None}


def _add_first_order_dates(stage: Stage) -> str:
    """Where the customers of the landing are, with the date of the first order that silver now has: new ones come with it,
    so that few rows of silver are changed once more."""
    stage.engine.refresh("silver.orders")
    stage.engine.create_table(
        "new.known_customers",
        """
        WITH firsts AS (
            SELECT customer_key, min(order_date) AS first_order_date FROM silver.orders
            WHERE customer_key IN (SELECT customer_key FROM new.customers) GROUP BY customer_key
        )
        SELECT c.* REPLACE (f.first_order_date AS first_order_date) FROM new.customers AS c
        LEFT JOIN firsts AS f ON f.customer_key = c.customer_key
        """,
    )
    return "new.known_customers"


def _update_first_order_dates(stage: Stage, contract: Table) -> None:
    """Bring ``customers.first_order_date`` in line with silver.orders, until a look finds nothing to change; null for a
    customer without orders. All customers are looked at: a run that died before this leaves no list of them."""
    while True:
        for name in ("silver.orders", "silver.customers"):
            stage.engine.refresh(name)
        rows = stage.engine.arrow(
            """
            WITH firsts AS (SELECT customer_key, min(order_date) AS first_order_date FROM silver.orders GROUP BY customer_key)
            SELECT c.customer_key, f.first_order_date FROM silver.customers AS c
            LEFT JOIN firsts AS f ON f.customer_key = c.customer_key
            WHERE c.first_order_date IS DISTINCT FROM f.first_order_date ORDER BY c.customer_key
            """
        )
        if not rows.num_rows:
            return
        stage.lake.update_column(contract, rows, "first_order_date")
