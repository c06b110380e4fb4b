"""Test that each rule of every contract finds a fault, with the expected outcome, that no other rule finds.

``landing_faults`` and ``model_faults`` list the faults with rule and outcome.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Optional

import pyarrow as pa
import pytest

from daybook.contracts import load_tables
from daybook.lake.publish import LakeSnapshot
from daybook.notebook import quality as gate
from daybook.notebook.aggregate import TOUCHED
from daybook.notebook.basis import CandidateBasis
from daybook.notebook.past import read_history
from daybook.notebook.stale_dates import LANDED_DATES
from daybook.quality.checks import RuleResult
from daybook.quality.gates import format_warnings, gate_broken_rules, gate_differences, gate_rejected_share
from daybook.quality.rules import Rule, landing_rules
from daybook.settings import load_settings
from daybook.sources.config import list_sources, load_source
from tests.cells import define_sql_cells, load_sql_cells
from tests.quality import landing_faults, model_faults, valid_tables
from tests.quality.conftest import Bench, Found, refined_rules, typed_rows
from tests.quality.fault_cases import QUARANTINED, REJECTED, WARNED, FaultCase, build_fault_cases, set_first

SOURCES = ("demo", "olist", "online_retail")
LAYERS = ("silver", "gold")
TABLE = [
    *build_fault_cases("demo", landing_faults.DEMO),
    *build_fault_cases("olist", landing_faults.OLIST),
    *build_fault_cases("online_retail", landing_faults.ONLINE_RETAIL),
    *build_fault_cases("silver", model_faults.SILVER),
    *build_fault_cases("gold", model_faults.GOLD),
]
VALID = {**valid_tables.build_landing(), "silver": valid_tables.build_silver(), "gold": valid_tables.build_gold()}
TABLES = [f"{group}.{name}" for group, tables in VALID.items() for name in tables]


def rules_of(table: str) -> list[Rule]:
    """Return the rules of a table."""
    group, name = table.split(".")
    if group in SOURCES:
        return landing_rules(load_source(group), name)
    return refined_rules(load_tables(group)[table])


def examine(bench: Bench, table: str, tables: valid_tables.Tables, rules: Optional[list[Rule]] = None) -> Found:
    """Load the tables of a source or layer, and check one of them."""
    group, name = table.split(".")
    if group in SOURCES:
        source = load_source(group)
        bench.load_landing(source, tables)
        return bench.check_landing(source, name, rules=rules)
    bench.load(group, tables)
    found = bench.check(load_tables(group)[table], rules)
    return Found(found.results + history_of(bench, table, rules), {})


def history_of(bench: Bench, table: str, rules: Optional[list[Rule]]) -> list[RuleResult]:
    """Return the results of rules on history, which are not SQL on one table."""
    names = [rule.name for rule in (rules_of(table) if rules is None else rules) if rule.history]
    if not names:
        return []
    found = read_history(bench.engine, [valid_tables.DAY], of_today="candidate").check(valid_tables.DAY)
    return [each for each in found if each.table == table and each.rule in names]


def stage_on(bench: Bench) -> Any:
    """Return a stand-in for a stage with the attributes that the gate's checks use."""
    settings = load_settings("local")
    source = load_source(settings.source)
    day = valid_tables.DAY
    return SimpleNamespace(engine=bench.engine, run_date=day, until=day, settings=settings, source=source, definitions={})


def broken(results: list[RuleResult], rules: list[Rule]) -> set[str]:
    """Return the broken rules."""
    return {each.rule for each in results if not each.holds} & {rule.name for rule in rules}


def outcome_of(rule: str, found: Found, per_row: set[str]) -> str:
    """Return the outcome of the gates for a rule; empty if nothing breaks it."""
    if any(rule in reasons for reasons in found.quarantined.values()):
        return QUARANTINED
    # Landed rows that break a row rule are quarantined. Later layers have no quarantine.
    stopping = gate_broken_rules([each for each in found.results if each.rule == rule and rule not in per_row])
    if stopping:
        return REJECTED
    return WARNED if format_warnings([each for each in found.results if each.rule == rule]) else ""


def key_of(table: str, row: valid_tables.Row, number: int) -> str:
    """Return a row's key as in a report, with shortened pseudonyms; of a landed row, its file and number."""
    group, name = table.split(".")
    if group in SOURCES:
        return f"{name}.csv / {number}"
    contract = load_tables(group)[table]
    shown = [f"{row[each][:8]}…" if each in contract.pseudonyms and row[each] else row[each] for each in contract.key]
    return " / ".join(str(each) for each in shown if each is not None)


@pytest.fixture(scope="module")
def loaded(bench: Bench) -> Bench:
    """Return the bench with the valid tables of silver and gold, and with history for anomaly rules."""
    for layer in LAYERS:
        bench.load(layer, VALID[layer])
    for table in TABLES:
        if any(rule.history for rule in rules_of(table)):
            contract = load_tables("gold")[table]
            bench.engine.register(table, typed_rows(contract, valid_tables.build_history(contract.name)))
    return bench


@pytest.mark.parametrize("table", TABLES)
def test_valid_table_satisfies_every_rule(loaded: Bench, table: str) -> None:
    found = examine(loaded, table, VALID[table.split(".")[0]])
    assert len(found.results) == len(rules_of(table))
    assert [each for each in found.results if each.failing] == []


@pytest.mark.parametrize("case", TABLE, ids=lambda each: f"{each.table}: {each.rule}")
def test_each_defect_is_found_by_its_rule(loaded: Bench, case: FaultCase) -> None:
    group, name = case.table.split(".")
    rules = rules_of(case.table)
    tables = case.apply(VALID[group])

    found = examine(loaded, case.table, tables)
    without = examine(loaded, case.table, tables, [rule for rule in rules if rule.name != case.rule])

    per_row = {rule.name for rule in rules if rule.is_per_row} if group in SOURCES else set()
    (target,) = [rule for rule in rules if rule.name == case.rule]
    # A wrong figure is often an anomaly too, so rules on history are compared among themselves.
    comparable = [rule for rule in rules if bool(rule.history) == bool(target.history)]
    assert broken(found.results, comparable) == {case.rule, *case.also}
    assert outcome_of(case.rule, found, per_row) == case.outcome
    assert broken(without.results, comparable) == set(case.also), "another rule finds the fault too"
    if not case.also:
        assert without.quarantined == {}

    (result,) = [each for each in found.results if each.rule == case.rule]
    if not callable(case.fault):
        assert result.failing == 1
        assert list(result.samples) == ([key_of(case.table, tables[name][0], 1)] if target.failing else [])
    shown = f"{result.samples} {result.measured}"
    assert not [value for value in valid_tables.PERSONAL if value in shown]


@pytest.mark.parametrize("table", TABLES)
def test_every_rule_has_a_defect_and_every_defect_a_rule(table: str) -> None:
    assert uncovered(table, rules_of(table)) == set()


@pytest.mark.parametrize("table", TABLES)
def test_removed_or_added_rule_is_detected(table: str) -> None:
    rules = [rule for rule in rules_of(table) if not rule.default]
    for rule in rules:
        assert uncovered(table, [each for each in rules if each is not rule]) == {rule.name}
    assert uncovered(table, [*rules, Rule("a new rule", failing="TRUE")]) == {"a new rule"}


def uncovered(table: str, rules: list[Rule]) -> set[str]:
    """Return rules of the contract without a fault, and faults without a rule."""
    return {rule.name for rule in rules if not rule.default} ^ {case.rule for case in TABLE if case.table == table}


def test_every_contract_has_defects() -> None:
    contracts = [f"{source}.{entity}" for source in list_sources() for entity in load_source(source).entities]
    contracts += [name for layer in LAYERS for name in load_tables(layer)]
    assert sorted(contracts) == sorted(TABLES)


def test_defects_are_distinct() -> None:
    named = [(case.table, case.rule) for case in TABLE]
    assert len(named) == len(set(named)) > 250


def test_gate_stops_only_above_the_rejected_share(loaded: Bench) -> None:
    for count, refused in [(5, False), (6, True)]:
        tables = FaultCase("demo.orders", set_first(count, {"status": "?"}), "", "", ()).apply(VALID["demo"])
        found = examine(loaded, "demo.orders", tables)
        result = gate_rejected_share("orders", len(tables["orders"]), len(found.quarantined), most=0.05, tolerated=5)
        assert [each.finding_id for each in result] == (["orders: rejected share"] if refused else [])


RECONCILED = [  # A wrong figure of a candidate, and the name in the finding.
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


BASIS = CandidateBasis(
    snapshot=LakeSnapshot("", {}),
    run_dates=[valid_tables.DAY],
    notes={},
    touched_by={valid_tables.DAY: [valid_tables.DAY]},
    held=[],
    definitions={},
)


@pytest.fixture(scope="module")
def reconciled(loaded: Bench) -> Bench:
    """Return the bench with silver after the merge, and the touched dates."""
    for name in ("orders", "order_items", "payments"):
        loaded.engine.register(f"silver.{name}", typed_rows(load_tables("silver")[f"silver.{name}"], VALID["silver"][name]))
    for name, column in ((TOUCHED, "order_date"), (LANDED_DATES, "run_date")):
        loaded.engine.register(name, pa.table({column: pa.array([valid_tables.DAY], pa.date32())}))
    definitions = load_sql_cells("aggregate")
    for name in ("all_orders", "all_lines"):
        loaded.engine.define(name, definitions[name])
    loaded.load("gold", VALID["gold"])
    define_sql_cells(stage_on(loaded), "quality", audit=gate.Audit(BASIS))
    return loaded


def reconcile(bench: Bench) -> gate.Audit:
    """Compare the candidates on the bench with silver, by the queries of the notebook."""
    audit = gate.Audit(BASIS)
    gate.reconcile(stage_on(bench), audit, "from_candidates", "from_silver")
    return audit


def test_valid_candidates_agree_with_silver(reconciled: Bench) -> None:
    reconciled.load("gold", VALID["gold"])
    (figures,) = reconcile(reconciled).figures.values()
    assert set(figures) == {name for _, _, name in RECONCILED}
    assert not gate_differences({valid_tables.DAY: figures})
    assert all(left for name, (left, _) in figures.items() if not name.endswith(("returns_amount", "adjustments_amount")))


@pytest.mark.parametrize(("table", "wrong", "figure"), RECONCILED, ids=lambda value: value if isinstance(value, str) else "")
def test_figure_that_differs_from_silver_is_refused(reconciled: Bench, table: str, wrong: dict[str, int], figure: str) -> None:
    reconciled.load("gold", FaultCase(f"gold.{table}", wrong, "", "", ()).apply(VALID["gold"]))
    (figures,) = reconcile(reconciled).figures.values()
    result = gate_differences({valid_tables.DAY: figures})
    assert [each.finding_id for each in result] == [f"{figure}: agrees with silver"]
    assert not result[0].waivable
    del figures[figure]
    assert not gate_differences({valid_tables.DAY: figures})
