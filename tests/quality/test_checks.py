"""Test the queries of checks and their results."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daybook.contracts import load_table
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError
from daybook.lake.tables import Lake
from daybook.notebook.gate import format_range_rules, format_rules
from daybook.quality.checks import RuleResult, check_contract, check_rules, reasons_sql
from daybook.quality.rules import Rule

PRODUCTS = load_table("silver.products")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDBEngine:
    monkeypatch.chdir(tmp_path)
    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "Europe/Berlin")
    engine.register("numbers", pa.table({"id": [10, 11, 12, 13], "n": [1, 2, 3, None]}))
    return engine


def run(engine: DuckDBEngine, *rules: Rule, **settings: Any) -> Any:
    return check_rules(engine, "numbers", list(rules), "shop.numbers", key=["id"], **settings)


def test_check_returns_counts_and_samples(engine: DuckDBEngine) -> None:
    results, _, _ = run(engine, Rule("n is small", failing="n > 1"), Rule("n is present", failing="n IS NULL"))
    assert [(each.table, each.rule, each.checked, each.failing, each.share, each.samples) for each in results] == [
        ("shop.numbers", "n is small", 4, 2, 0.5, ("11", "12")),
        ("shop.numbers", "n is present", 4, 1, 0.25, ("13",)),
    ]


def test_listing_shows_sql_counts_and_positions(engine: DuckDBEngine) -> None:
    results, _, _ = run(engine, Rule("n is small", failing="n > 1"), Rule("few rows", value="(SELECT count(*) FROM numbers)"))
    shown = format_rules(results)
    by_rule = {row[1]: dict(zip(shown.columns, row)) for row in shown.rows}
    assert (by_rule["n is small"]["SQL"], by_rule["n is small"]["failing"]) == ("n > 1", 2)
    assert by_rule["n is small"]["for example"] == "11, 12"
    assert by_rule["few rows"]["SQL"] == "(SELECT count(*) FROM numbers)"


def test_range_listing_has_a_row_per_broken_rule() -> None:
    def result(rule: str, failing: int, *samples: str, **changes: Any) -> RuleResult:
        return RuleResult("shop.numbers", rule, 10, failing, samples=samples, **changes)

    shared = result("few rows", 1, holds=False, severity="warning", measured="4, must be < 3")
    rules = {
        date(2025, 11, 1): [result("n is small", 1, "n/2025-11-01/n.csv / 7", holds=False), result("n is present", 0), shared],
        date(2025, 11, 2): [result("n is small", 4, "n/2025-11-02/n.csv / 9", holds=False), result("n is present", 0), shared],
        date(2025, 11, 3): [result("n is small", 0), result("n is present", 0), shared],
    }
    shown = format_range_rules(rules)
    first, second = [dict(zip(shown.columns, row)) for row in shown.rows]
    assert [first[name] for name in ("rule", "dates", "checked", "failing", "share")] == ["n is small", 2, 30, 5, 5 / 30]
    assert [first[name] for name in ("worst date", "its share", "for example")] == [date(2025, 11, 2), 0.4, "n.csv / 9"]
    # A result that is the same for all dates counts its rows once.
    assert [second[name] for name in ("rule", "dates", "checked", "measured")] == ["few rows", 3, 10, "4, must be < 3"]


def test_rule_that_returns_text_hides_it(engine: DuckDBEngine) -> None:
    with pytest.raises(ContractError, match="returns a str instead of a number") as error:
        run(engine, Rule("a name", value="(SELECT 'Ottilie')"))
    assert "Ottilie" not in str(error.value)


def test_rules_run_in_two_queries(engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[str] = []
    arrow, rows_of = engine.arrow, engine.rows
    monkeypatch.setattr(engine, "arrow", lambda sql: queries.append(sql) or arrow(sql))
    monkeypatch.setattr(engine, "rows", lambda sql: queries.append(sql) or rows_of(sql))
    run(engine, *[Rule(f"n is not {number}", failing=f"n = {number}") for number in range(10, 30)])
    assert len(queries) == 1
    _, rows, rules = run(engine, *[Rule(f"n is not {number}", failing=f"n = {number}") for number in range(20)])
    assert len([sql for sql in queries if "FROM numbers" in sql]) == 3
    assert (rows.num_rows, [rule.name for rule in rules]) == (3, ["n is not 1", "n is not 2", "n is not 3"])


def test_check_of_no_rows_passes(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"id": pa.array([], pa.int64()), "n": pa.array([], pa.int64())}))
    ((result,), _, _) = run(engine, Rule("n is small", failing="n > 1"))
    assert (result.checked, result.failing, result.share, result.holds) == (0, 0, 0.0, True)


def test_samples_have_at_most_five_keys(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"id": range(100, 200), "n": range(100)}))
    ((result,), _, _) = run(engine, Rule("n is small", failing="n > 1"))
    assert (result.failing, result.samples) == (98, ("102", "103", "104", "105", "106"))


def test_pseudonyms_are_shortened_in_samples(engine: DuckDBEngine) -> None:
    engine.register("numbers", pa.table({"id": ["0123456789abcdef"], "n": [9]}))
    ((result,), _, _) = run(engine, Rule("n is small", failing="n > 1"), pseudonyms=("id",))
    assert result.samples == ("01234567…",)


def test_reasons_list_every_broken_rule(engine: DuckDBEngine) -> None:
    _, rows, rules = run(engine, Rule("n is below 2", failing="n >= 2"), Rule("n isn't 3; ever", failing="n = 3"))
    engine.register("failing", rows)
    found = engine.rows(f"SELECT id, {reasons_sql(rules)} FROM failing ORDER BY id")
    assert found == [(11, "n is below 2"), (12, "n is below 2; n isn't 3; ever")]
    assert engine.rows(f"SELECT DISTINCT {reasons_sql([None, rules[1]])} FROM failing ORDER BY 1") == [
        ("",),
        ("n isn't 3; ever",),
    ]


@pytest.mark.parametrize(
    ("condition", "measured", "holds"),
    [
        (("mustBe", 3), 3, True),
        (("mustBe", 3), 4, False),
        (("mustNotBe", 3), 3, False),
        (("mustBeGreaterThan", 3), 3, False),
        (("mustBeGreaterOrEqualTo", 3), 3, True),
        (("mustBeLessThan", 3), 3, False),
        (("mustBeLessOrEqualTo", 3), 3, True),
        (("mustBeBetween", (1, 3)), 3, True),
        (("mustBeBetween", (1, 3)), 4, False),
        (("mustNotBeBetween", (1, 3)), 2, False),
        (("mustNotBeBetween", (1, 3)), 0, True),
    ],
)
def test_table_rule_compares_its_number(engine: DuckDBEngine, condition: Any, measured: int, holds: bool) -> None:
    rule = Rule("it fits", value=f"(SELECT count(*) + {measured - 4} FROM ${{object}})", condition=condition)
    ((result,), _, _) = run(engine, rule)
    assert (result.holds, result.failing) == (holds, int(not holds))
    assert result.measured.startswith(f"{measured}, must ")


def test_null_satisfies_a_table_rule(engine: DuckDBEngine) -> None:
    ((result,), _, _) = run(engine, Rule("share", value="(SELECT avg(n) FROM ${object} WHERE n > 99)", condition=("mustBe", 1)))
    assert result.holds


def test_share_of_failing_rows_has_a_limit(engine: DuckDBEngine) -> None:
    def broken(limit: int) -> Any:
        ((result,), _, _) = run(
            engine, Rule("n is small", failing="n > 1", condition=("mustBeLessThan", limit), unit="percent")
        )
        return result.holds, result.failing

    assert broken(51) == (True, 2)
    assert broken(50) == (False, 2)


def test_rules_can_use_the_business_date(engine: DuckDBEngine) -> None:
    rule = Rule("day", value="(SELECT date_diff('day', DATE '2025-11-01', DATE '${run_date}'))", condition=("mustBe", 29))
    ((result,), _, _) = run(engine, rule, run_date=date(2025, 11, 30))
    assert result.holds


def products(*keys: Any, **others: Any) -> pa.Table:
    rows = [
        {"product_id": key, "version_at": 0, "landed_on": 0, **{name: values[number] for name, values in others.items()}}
        for number, key in enumerate(keys)
    ]
    return pa.Table.from_pylist(rows, schema=PRODUCTS.arrow_schema)


def broken_by(engine: DuckDBEngine, rows: pa.Table) -> dict[str, tuple[int, bool, tuple[str, ...]]]:
    engine.register("new_rows", rows)
    results = check_contract(engine, "new_rows", PRODUCTS)
    return {each.rule: (each.failing, each.holds, each.samples) for each in results if each.failing}


def test_valid_rows_satisfy_the_contract(engine: DuckDBEngine) -> None:
    assert broken_by(engine, products("a", "b")) == {}


def test_nulls_in_required_columns_are_counted(engine: DuckDBEngine) -> None:
    assert broken_by(engine, products("a", "b", version_at=[None, 0])) == {"version_at is present": (1, False, ("a",))}


def test_rows_beyond_the_first_of_a_key_are_counted(engine: DuckDBEngine) -> None:
    assert broken_by(engine, products("a", "a", "a", "b", "b", "c")) == {"product_id is unique": (3, False, ("a", "b"))}


def test_composite_key_is_compared_as_a_whole(engine: DuckDBEngine) -> None:
    payments = load_table("silver.payments")
    rows = [
        {"order_id": order, "sequence": number, "method": "x", "amount": 1, "version_at": 0, "landed_on": 0}
        for order, number in [("a", 1), ("a", 2), ("b", 1), ("b", 1)]
    ]
    engine.register("new_rows", pa.Table.from_pylist(rows, schema=payments.arrow_schema))
    results = {each.rule: each for each in check_contract(engine, "new_rows", payments)}
    assert results["(order_id, sequence) is unique"].failing == 1
    assert results["(order_id, sequence) is unique"].samples == ("b / 1",)


def test_foreign_key_uses_the_given_relation(engine: DuckDBEngine) -> None:
    payments = load_table("silver.payments")
    rows = [{"order_id": order, "sequence": 1, "method": "x", "amount": 1, "version_at": 0, "landed_on": 0} for order in "ab"]
    engine.register("new_rows", pa.Table.from_pylist(rows, schema=payments.arrow_schema))
    engine.register("known_orders", pa.table({"order_id": ["b", None]}))
    results = {each.rule: each for each in check_contract(engine, "new_rows", payments, known=lambda name: "known_orders")}
    found = results["order_id is among orders"]
    assert (found.failing, found.holds, found.severity, found.samples) == (1, False, "warning", ("a / 1",))
