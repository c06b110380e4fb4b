"""THE TABLE, tested: every rule of every contract has a trouble that it alone is meant for, and catches it.

The table stands in ``landing_troubles`` and ``refined_troubles``: trouble, rule, outcome. Here: that sound tables break
nothing, that each trouble is found by its rule, with the outcome said, and by none without it; that no rule lacks a trouble.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Optional

import pyarrow as pa
import pytest

from daybook.contracts import load_tables
from daybook.notebook import quality as gate
from daybook.quality import (
    Rule,
    RuleResult,
    format_warnings,
    gate_broken_rules,
    gate_differences,
    gate_rejected_share,
    landing_rules,
)
from daybook.settings import load_settings
from daybook.sources.config import list_sources, load_source
from tests.quality import landing_troubles, refined_troubles, sound
from tests.quality.conftest import Bench, Found, refined_rules, typed_rows
from tests.quality.spoiling import QUARANTINED, REJECTED, WARNED, FaultCase, build_fault_cases, set_first

SOURCES = ("demo", "olist", "online_retail")
LAYERS = ("silver", "gold")
TABLE = [
    *build_fault_cases("demo", landing_troubles.DEMO),
    *build_fault_cases("olist", landing_troubles.OLIST),
    *build_fault_cases("online_retail", landing_troubles.ONLINE_RETAIL),
    *build_fault_cases("silver", refined_troubles.SILVER),
    *build_fault_cases("gold", refined_troubles.GOLD),
]
SOUND = {**sound.build_landing(), "silver": sound.build_silver(), "gold": sound.build_gold()}
TABLES = [f"{group}.{name}" for group, tables in SOUND.items() for name in tables]


def compiled(table: str) -> list[Rule]:
    """The rules of a table of the table of troubles."""
    group, name = table.split(".")
    if group in SOURCES:
        return landing_rules(load_source(group), name)
    return refined_rules(load_tables(group)[table])


def examine(bench: Bench, table: str, tables: sound.Tables, rules: Optional[list[Rule]] = None) -> Found:
    """Lay a source's or layer's tables and check one of them."""
    group, name = table.split(".")
    if group in SOURCES:
        source = load_source(group)
        bench.lay_landing(source, tables)
        return bench.check_landing(source, name, rules=rules)
    bench.lay(group, tables)
    found = bench.check(load_tables(group)[table], rules)
    return Found(found.results + history_of(bench, table, rules), {})


def history_of(bench: Bench, table: str, rules: Optional[list[Rule]]) -> list[RuleResult]:
    """What the rules on a figure's past find, which are no SQL of one table."""
    kept = [rule.name for rule in (compiled(table) if rules is None else rules) if rule.history]
    if not kept:
        return []
    found = gate.check_history(bench.engine, sound.DAY, of_today="candidate")
    return [each for each in found if each.table == table and each.rule in kept]


def stage_on(bench: Bench) -> Any:
    """As much of a stage as the gate's own checks look at."""
    settings = load_settings("local")
    return SimpleNamespace(engine=bench.engine, day=sound.DAY.isoformat(), run_date=sound.DAY, settings=settings)


def broken(results: list[RuleResult], rules: list[Rule]) -> set[str]:
    """Those of the rules that something breaks."""
    return {each.rule for each in results if not each.holds} & {rule.name for rule in rules}


def outcome_of(rule: str, found: Found, per_row: set[str]) -> str:
    """What becomes of what breaks a rule, as the gates decide it; nothing where it is not found."""
    if any(rule in reasons for reasons in found.put_aside.values()):
        return QUARANTINED
    # Rows that break a rule by themselves are put aside when they land; after that there is no putting aside.
    stopping = gate_broken_rules([each for each in found.results if each.rule == rule and rule not in per_row])
    if stopping.findings:
        return REJECTED
    return WARNED if format_warnings([each for each in found.results if each.rule == rule]) else ""


def key_of(table: str, row: sound.Row, number: int) -> str:
    """How a report names a row: by its key, pseudonyms cut; a landed one by its file and number."""
    group, name = table.split(".")
    if group in SOURCES:
        return f"{name}.csv / {number}"
    contract = load_tables(group)[table]
    shown = [f"{row[each][:8]}…" if each in contract.pseudonyms and row[each] else row[each] for each in contract.key]
    return " / ".join(str(each) for each in shown if each is not None)


@pytest.fixture(scope="module")
def laid(bench: Bench) -> Bench:
    """The bench with the sound tables of silver and gold on it, and the past of those whose figures are compared with it."""
    for layer in LAYERS:
        bench.lay(layer, SOUND[layer])
    for table in TABLES:
        if any(rule.history for rule in compiled(table)):
            contract = load_tables("gold")[table]
            bench.engine.register(table, typed_rows(contract, sound.build_history(contract.name)))
    return bench


@pytest.mark.parametrize("table", TABLES)
def test_valid_table_satisfies_every_rule(laid: Bench, table: str) -> None:
    found = examine(laid, table, SOUND[table.split(".")[0]])
    assert len(found.results) == len(compiled(table))
    assert [each for each in found.results if each.failing] == []


@pytest.mark.parametrize("trouble", TABLE, ids=lambda each: f"{each.table}: {each.rule}")
def test_each_defect_is_found_by_its_rule(laid: Bench, trouble: FaultCase) -> None:
    group, name = trouble.table.split(".")
    rules = compiled(trouble.table)
    tables = trouble.apply(SOUND[group])

    found = examine(laid, trouble.table, tables)
    without = examine(laid, trouble.table, tables, [rule for rule in rules if rule.name != trouble.rule])

    per_row = {rule.name for rule in rules if rule.is_per_row} if group in SOURCES else set()
    (meant,) = [rule for rule in rules if rule.name == trouble.rule]
    # A wrong figure is mostly unusual as well: rules on a figure's past are compared among themselves.
    alike = [rule for rule in rules if bool(rule.history) == bool(meant.history)]
    assert broken(found.results, alike) == {trouble.rule, *trouble.also}
    assert outcome_of(trouble.rule, found, per_row) == trouble.outcome
    assert broken(without.results, alike) == set(trouble.also), "another rule finds it, so the one meant for it is not needed"
    if not trouble.also:
        assert without.put_aside == {}

    (result,) = [each for each in found.results if each.rule == trouble.rule]
    if not callable(trouble.spoil):
        assert result.failing == 1
        assert list(result.samples) == ([key_of(trouble.table, tables[name][0], 1)] if meant.failing else [])
    told = f"{result.samples} {result.measured}"
    assert not [value for value in sound.PERSONAL if value in told]


@pytest.mark.parametrize("table", TABLES)
def test_every_rule_has_a_defect_and_every_defect_a_rule(table: str) -> None:
    assert uncovered(table, compiled(table)) == set()


@pytest.mark.parametrize("table", TABLES)
def test_removed_or_added_rule_is_detected(table: str) -> None:
    rules = [rule for rule in compiled(table) if not rule.default]
    for rule in rules:
        assert uncovered(table, [each for each in rules if each is not rule]) == {rule.name}
    assert uncovered(table, [*rules, Rule("a new rule", failing="TRUE")]) == {"a new rule"}


def uncovered(table: str, rules: list[Rule]) -> set[str]:
    """Rules of the contract without a trouble, and troubles without a rule."""
    return {rule.name for rule in rules if not rule.default} ^ {trouble.rule for trouble in TABLE if trouble.table == table}


def test_every_contract_has_defects() -> None:
    contracts = [f"{source}.{entity}" for source in list_sources() for entity in load_source(source).entities]
    contracts += [name for layer in LAYERS for name in load_tables(layer)]
    assert sorted(contracts) == sorted(TABLES)


def test_defects_are_distinct() -> None:
    named = [(trouble.table, trouble.rule) for trouble in TABLE]
    assert len(named) == len(set(named)) > 250


def test_gate_stops_only_above_the_rejected_share(laid: Bench) -> None:
    for count, refused in [(5, False), (6, True)]:
        tables = FaultCase("demo.orders", set_first(count, {"status": "?"}), "", "", ()).apply(SOUND["demo"])
        found = examine(laid, "demo.orders", tables)
        verdict = gate_rejected_share("orders", len(tables["orders"]), len(found.put_aside), most=0.05, tolerated=5)
        assert [each.finding_id for each in verdict.findings] == (["orders: rejected share"] if refused else [])


RECONCILED = [  # a candidate's figure that is not what silver gives, and what the gate says
    ("daily_sales", {"gross_revenue": 1}, "daily_sales.gross_revenue"),
    ("daily_sales", {"returns_amount": 1}, "daily_sales.returns_amount"),
    ("daily_sales", {"net_revenue": 1}, "daily_sales.net_revenue"),
    ("daily_sales", {"adjustments_amount": 1}, "daily_sales.adjustments_amount"),
    ("daily_sales", {"orders": 1}, "daily_sales.orders"),
    ("daily_sales", {"units": 1}, "daily_sales.units"),
    ("category_sales", {"gross_revenue": 1}, "category_sales.gross_revenue"),
    ("category_sales", {"returns_amount": 1}, "category_sales.returns_amount"),
    ("product_sales", {"gross_revenue": 1}, "product_sales.gross_revenue"),
    ("product_sales", {"returns_amount": 1}, "product_sales.returns_amount"),
    ("payment_mix", {"amount": 1}, "payment_mix.amount"),
    ("delivery_performance", {"delivered_orders": 1}, "delivery_performance.delivered_orders"),
]


@pytest.fixture(scope="module")
def reconciled(laid: Bench) -> Bench:
    """The bench with silver as it is after the merge, and the touched dates."""
    for name in ("orders", "order_items", "payments"):
        laid.engine.register(f"silver.{name}", typed_rows(load_tables("silver")[f"silver.{name}"], SOUND["silver"][name]))
    laid.engine.register(gate.TOUCHED, pa.table({"order_date": pa.array([sound.DAY], pa.date32())}))
    return laid


def test_valid_candidates_agree_with_silver(reconciled: Bench) -> None:
    reconciled.lay("gold", SOUND["gold"])
    figures = gate._reconcile(stage_on(reconciled))
    assert set(figures) == {name for _, _, name in RECONCILED}
    assert gate_differences(figures).passed
    assert all(left for name, (left, _) in figures.items() if not name.endswith(("returns_amount", "adjustments_amount")))


@pytest.mark.parametrize(("table", "wrong", "figure"), RECONCILED, ids=lambda value: value if isinstance(value, str) else "")
def test_figure_that_differs_from_silver_is_refused(reconciled: Bench, table: str, wrong: dict[str, int], figure: str) -> None:
    reconciled.lay("gold", FaultCase(f"gold.{table}", wrong, "", "", ()).apply(SOUND["gold"]))
    figures = gate._reconcile(stage_on(reconciled))
    verdict = gate_differences(figures)
    assert [each.finding_id for each in verdict.findings] == [f"{figure}: agrees with silver"]
    assert not verdict.findings[0].waivable
    del figures[figure]
    assert gate_differences(figures).passed
