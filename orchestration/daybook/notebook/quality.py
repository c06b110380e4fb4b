"""Stage 5: candidates are held against their contracts, against silver and against the last weeks; then published."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Optional

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine
from daybook.notebook.aggregate import TOUCHED_TABLE
from daybook.notebook.approval import apply_approval
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.notebook.publishing import open_candidates, publish_candidates
from daybook.notebook.stale_dates import LANDED_DATES, hold_dates
from daybook.notebook.validate import format_rules, record_rules
from daybook.quality import (
    MAX_SAMPLES,
    GateResult,
    RuleResult,
    check_contract,
    format_warnings,
    gate_broken_rules,
    gate_differences,
    table_rules,
)
from daybook.quality.anomaly import AnomalyScore, robust_z_score

COUNTED_ORDERS_SQL = "o.status NOT IN ('cancelled', 'unavailable', 'adjustment')"
"""Orders that count as orders, and whose lines count as sold."""
_RETURNED_LINES_SQL = "i.is_return AND o.status <> 'adjustment'"
"""Lines that count as returned."""
_MAX_LISTED = 30
"""Dates that are listed of those that change."""


@dataclass
class Audit:
    """What the checks of the candidates found."""

    rules: list[RuleResult] = field(default_factory=list)
    figures: dict[str, tuple[object, object]] = field(default_factory=dict)
    dates: list[date] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> GateResult:
        return GateResult(gate_broken_rules(self.rules).findings + gate_differences(self.figures).findings)

    @property
    def contract_listing(self) -> Listing:
        """A row a gold table."""
        tables = dict.fromkeys(each.table for each in self.rules)
        rows = []
        for table in tables:
            mine = [each for each in self.rules if each.table == table]
            rows.append((table, mine[0].checked, len(mine), sum(1 for each in mine if each.failing)))
        return Listing(["table", "rows", "rules", "broken rules"], rows)

    @property
    def broken(self) -> Listing:
        """A row a rule that does not hold."""
        return format_rules(self.rules)

    @property
    def reconciliation(self) -> Listing:
        """A row a figure that must agree to the cent."""
        return Listing(
            ["figure", "candidate", "from silver", "agrees"],
            [(name, left, right, "yes" if left == right else "NO") for name, (left, right) in self.figures.items()],
        )


def audit(stage: Stage) -> Audit:
    """Check the candidates of this run: contracts, gold = silver, and the day against the four weeks before."""
    found = Audit(dates=open_candidates(stage))
    for contract in load_tables("gold").values():
        found.rules += check_contract(
            stage.engine, f"candidate.{contract.name}", contract, run_date=stage.run_date, known=_candidate_table
        )
    found.figures = _reconcile(stage)
    if stage.part_of is None:
        # A backfill judges its days once all are through: until then a day's past may not be there.
        found.rules += check_history(stage.engine, stage.run_date, of_today="candidate")
    found.warnings = [*format_warnings(found.rules), *_warn_of_undated_returns(stage)]
    return found


def _warn_of_undated_returns(stage: Stage) -> list[str]:
    """Return a warning of returns that no date shows: they came back on a date that has not landed."""
    if stage.settings.returns_count_on != "return_date":
        return []
    count, amount, first, last = stage.engine.fetch_row(
        f"""
        SELECT count(*), sum(abs(i.line_amount)), min(CAST(i.returned_at AS DATE)), max(CAST(i.returned_at AS DATE))
        FROM silver.order_items AS i JOIN silver.orders AS o ON o.order_id = i.order_id
        WHERE {_RETURNED_LINES_SQL} AND CAST(i.returned_at AS DATE) NOT IN (SELECT run_date FROM {LANDED_DATES})
          AND o.order_date IN (SELECT run_date FROM {LANDED_DATES})
        """
    )
    if not count:
        return []
    return [
        f"gold.daily_sales: {count:,} returned lines over {amount:,.2f} {stage.settings.currency} are in no figures: they came "
        f"back on dates from {first} to {last} that have not landed"
    ]


def changes_for_readers(stage: Stage) -> Listing:
    """Every touched date, the newest first, as it is published now and as it will be."""
    figures = ("orders", "gross_revenue", "returns_amount")
    now = stage.engine.range_predicate("order_date", f"SELECT order_date FROM {TOUCHED_TABLE}")
    rows = stage.engine.rows(
        f"SELECT c.order_date, {', '.join(f'g.{name}, c.{name}' for name in figures)} FROM candidate.daily_sales AS c "
        f"LEFT JOIN (SELECT * FROM gold.daily_sales WHERE {now}) AS g ON g.order_date = c.order_date ORDER BY c.order_date DESC"
    )
    columns = [f"{name}{when}" for name in ("orders", "gross", "returns") for when in ("_now", "_new")]
    return Listing(["order_date", *columns], rows[:_MAX_LISTED], total=len(rows))


def publish(stage: Stage, found: Audit) -> None:
    """Make the candidates visible, one atomic commit a table, where nothing speaks against it; end the stage."""
    stage.details["warnings"] = found.warnings
    checked = sum(each.checked for each in found.rules if each.rule.endswith("is unique"))
    verdict = apply_approval(stage, found.verdict)
    record_rules(stage, found.rules, verdict, broken="rejected")
    if not verdict.passed:
        hold_dates(stage)
        stage.reject(verdict.reasons, rows_in=checked)
        return
    publish_candidates(stage, found.dates)
    stage.succeed(rows_in=checked, rows_out=checked)


def landed_orders(stage: Stage) -> tuple[Optional[str], Optional[str]]:
    """Make the counted orders that landed with this date queryable as ``landed_orders``; return the first and the last id.

    There are none where the source maps no payments: then nothing can be compared with order totals.
    """
    touched = f"SELECT order_date FROM {TOUCHED_TABLE}"
    payments = "TRUE" if stage.source.mapping.get("payments") else "FALSE"
    stage.engine.create_table(
        "landed_orders",
        f"SELECT o.order_id FROM silver.orders AS o WHERE {payments} AND o.landed_on = DATE '{stage.day}' AND {COUNTED_ORDERS_SQL} "
        f"AND o.order_date IN ({touched}) AND {stage.engine.range_predicate('order_date', touched)}",
    )
    first, last = stage.engine.fetch_row("SELECT min(order_id), max(order_id) FROM landed_orders")
    return first, last


def payment_warnings(stage: Stage) -> list[str]:
    """Return a warning with count and sample orders where ``payment_differences`` has rows."""
    count, samples = stage.engine.fetch_row(f"SELECT count(*), min(order_id, {MAX_SAMPLES}) FROM payment_differences")
    if not count:
        return []
    differ = "order differs" if count == 1 else "orders differ"
    return [
        f"silver.payments: {count:,} {differ} by more than a cent from the sum of lines and freight ({', '.join(samples)}); "
        "compare them with the source"
    ]


def _reconcile(stage: Stage) -> dict[str, tuple[object, object]]:
    """Figures of the candidates beside the same figures straight from silver, over the touched dates."""
    engine = stage.engine
    touched = f"SELECT order_date FROM {TOUCHED_TABLE}"
    engine.create_table(
        "reconciled",
        f"SELECT order_id, status, delivered_at FROM silver.orders WHERE order_date IN ({touched}) "
        f"AND {engine.range_predicate('order_date', touched)}",
    )
    ids = engine.range_predicate("order_id", "SELECT order_id FROM reconciled")
    sold = f"i.quantity > 0 AND i.unit_price > 0 AND {COUNTED_ORDERS_SQL}"
    gross, units, adjusted, returned = engine.fetch_row(
        f"""
        SELECT coalesce(sum(i.line_amount) FILTER (WHERE {sold}), 0), coalesce(sum(i.quantity) FILTER (WHERE {sold}), 0),
               coalesce(sum(i.line_amount) FILTER (WHERE o.status = 'adjustment'), 0),
               coalesce(sum(abs(i.line_amount)) FILTER (WHERE {_RETURNED_LINES_SQL}), 0)
        FROM reconciled AS o JOIN (SELECT * FROM silver.order_items WHERE {ids}) AS i ON i.order_id = o.order_id
        """
    )
    if stage.settings.returns_count_on == "return_date":
        (returned,) = engine.fetch_row(
            f"""
            SELECT coalesce(sum(abs(i.line_amount)), 0)
            FROM silver.orders AS o JOIN silver.order_items AS i ON i.order_id = o.order_id
            WHERE {_RETURNED_LINES_SQL} AND coalesce(CAST(i.returned_at AS DATE), o.order_date) IN ({touched})
            """
        )
    orders, delivered = engine.fetch_row(
        f"SELECT count(*), count(*) FILTER (WHERE o.delivered_at IS NOT NULL) FROM reconciled AS o WHERE {COUNTED_ORDERS_SQL}"
    )
    (paid,) = engine.fetch_row(
        f"SELECT coalesce(sum(p.amount), 0) FROM reconciled AS o JOIN (SELECT * FROM silver.payments WHERE {ids}) AS p "
        f"ON p.order_id = o.order_id WHERE {COUNTED_ORDERS_SQL}"
    )
    from_silver = {
        "daily_sales": {
            "gross_revenue": gross,
            "returns_amount": returned,
            "net_revenue": gross - returned,
            "adjustments_amount": adjusted,
            "orders": orders,
            "units": units,
        },
        "category_sales": {"gross_revenue": gross, "returns_amount": returned},
        "product_sales": {"gross_revenue": gross, "returns_amount": returned},
        "payment_mix": {"amount": paid},
        "delivery_performance": {"delivered_orders": delivered},
    }
    figures: dict[str, tuple[object, object]] = {}
    for table, expected in from_silver.items():
        sums = ", ".join(f"coalesce(sum({column}), 0)" for column in expected)
        found = engine.fetch_row(f"SELECT {sums} FROM candidate.{table}")
        figures.update({f"{table}.{name}": (left, right) for (name, right), left in zip(expected.items(), found)})
    return figures


def _candidate_table(table: str) -> str:
    """What a foreign key of a gold table is looked up in: it is published together with this table."""
    return f"candidate.{table.split('.')[1]}"


def check_history(engine: DuckDBEngine, day: date, *, of_today: str) -> list[RuleResult]:
    """The contracts' rules on the past of a figure, for one date: its own figure from the layer ``of_today`` (candidate or
    gold), those of the days before as they are published."""
    results = []
    for contract in load_tables("gold").values():
        rules = [(rule, *rule.history) for rule in table_rules(contract) if rule.history is not None]
        if not rules:
            continue
        (when,) = contract.partition_by
        columns = sorted({column for _, column, _ in rules})
        since = day - timedelta(days=max(settings.days for _, _, settings in rules))
        past = engine.rows(
            f"SELECT {when}, {', '.join(columns)} FROM {contract.full_name} "
            f"WHERE {when} < DATE '{day}' AND {when} >= DATE '{since}' ORDER BY {when}"
        )
        today = engine.rows(f"SELECT {', '.join(columns)} FROM {of_today}.{contract.name} WHERE {when} = DATE '{day}'")
        for rule, column, settings in rules:
            at = columns.index(column)
            since = day - timedelta(days=settings.days)
            known = [(row[0], float(row[1 + at])) for row in past if row[1 + at] is not None and row[0] >= since]
            figures = [float(row[at]) for row in today if row[at] is not None]
            value = figures[0] if figures else 0.0
            score = robust_z_score(known, day, value)
            holds = score is None or abs(score.z_score) <= settings.maximum
            measured = "" if score is None else _format_score(day, value, score, settings.maximum)
            results.append(
                RuleResult(contract.full_name, rule.name, len(known), int(not holds), rule.severity, holds, measured)
            )
    return results


def _format_score(day: date, value: float, score: AnomalyScore, maximum: float) -> str:
    direction = "above" if score.z_score > 0 else "below"
    return (
        f"{value:,.2f} is {direction} the {score.expected:,.2f} that {day:%A}s of the last {score.days} days let "
        f"expect (robust z-score {score.z_score:+.1f}, usual is up to {maximum:g})"
    )
