"""Test ``%%sql`` cells, and which cells run after a stage has ended."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from daybook.errors import SqlError, StageError, UsageError
from daybook.notebook import context as stages
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.records.names import RESULT_MIME
from tests.sessions import Session


@pytest.fixture
def stage(opened: Any) -> Stage:
    """Return the open stage, with a table of 25 numbers."""
    stage: Stage = opened.shell.user_ns["stage"]
    stage.engine.register("numbers", pa.table({"n": list(range(25)), "text": [f"it's {n}" for n in range(25)]}))
    return stage


def rows(listing: Listing) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in listing.rows]


# Showing a query


def test_cell_shows_first_rows_and_total(opened: Any, stage: Stage) -> None:
    shown = opened.value("%%sql\nSELECT n FROM numbers ORDER BY n")
    assert rows(shown) == [(n,) for n in range(10)]
    assert shown.total == 25
    assert shown.columns == ["n"]


def test_rows_option_limits_shown_rows(opened: Any, stage: Stage) -> None:
    assert len(opened.value("%%sql --rows 3\nSELECT n FROM numbers").rows) == 3


@pytest.mark.parametrize("clause", [" LIMIT 5", "\nlimit 5"])
def test_query_with_limit_shows_no_total(opened: Any, stage: Stage, clause: str) -> None:
    assert opened.value(f"%%sql\nSELECT n FROM numbers{clause}").total is None


@pytest.mark.parametrize("ending", [";", " -- all of them", ";\n-- all of them", " /* all */ ;"])
@pytest.mark.parametrize("name", ["", "named"])
def test_query_may_end_with_a_semicolon_or_a_comment(opened: Any, stage: Stage, name: str, ending: str) -> None:
    assert opened.value(f"%%sql {name}\nSELECT n FROM numbers{ending}").total == 25


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("DESCRIBE numbers", ("n", "BIGINT")),
        ("SUMMARIZE numbers;", ("n", "BIGINT")),
        ("PIVOT (SELECT n % 2 AS odd, n FROM numbers) ON odd USING count(*) GROUP BY n", (0, 1)),
        ("UNPIVOT (SELECT n, n AS m FROM numbers) ON n, m", ("n", 0)),
    ],
)
def test_statements_that_read_are_shown(opened: Any, stage: Stage, sql: str, first: tuple[Any, ...]) -> None:
    shown = opened.value(f"%%sql --rows 100\n{sql}")
    assert first in [row[:2] for row in rows(shown)]
    assert shown.total == {"D": 2, "S": 2, "P": 25, "U": 50}[sql[0]]


def test_show_tables_lists_the_views_of_the_notebook(opened: Any, stage: Stage) -> None:
    opened.run("%%sql mine --quiet\nSELECT 1 AS one")
    names = [name for (name,) in rows(opened.value("%%sql --rows 100\nSHOW TABLES"))]
    assert {"mine", "numbers", "silver.orders"} <= set(names)


def test_quiet_cell_shows_nothing(opened: Any, stage: Stage) -> None:
    assert opened.value("%%sql --quiet\nSELECT n FROM numbers") is None


def test_shares_are_shown_in_percent(opened: Any, stage: Stage) -> None:
    shown = opened.value("%%sql\nSELECT 0.25 AS share, 0.5 AS month_1_retention, 0.5 AS shared")
    assert shown.percent == ["share", "month_1_retention"]


def test_wrong_query_raises_one_sentence(opened: Any, stage: Stage) -> None:
    error = opened.error("%%sql\nSELECT missing FROM numbers")
    assert isinstance(error, SqlError)
    assert str(error).startswith('Binder Error: Referenced column "missing" not found')


def test_query_that_fails_while_it_runs_raises_one_sentence(opened: Any, stage: Stage) -> None:
    error = opened.error("%%sql\nSELECT CAST(text AS INTEGER) FROM numbers")
    assert isinstance(error, SqlError)
    assert "\n" not in str(error)


@pytest.mark.parametrize(("line", "unknown"), [("--sort", "--sort"), ("one two", "two"), ("one -q", "-q")])
def test_unknown_option_shows_the_usage(opened: Any, stage: Stage, line: str, unknown: str) -> None:
    error = opened.error(f"%%sql {line}\nSELECT 1")
    assert isinstance(error, UsageError)
    assert str(error) == f"%%sql does not know {unknown!r}; write %%sql [name] [--as NAME] [--rows N] [--quiet]."


@pytest.mark.parametrize("line", ["--rows", "--rows many", "'open"])
def test_unreadable_line_shows_the_usage(opened: Any, stage: Stage, line: str) -> None:
    error = opened.error(f"%%sql {line}\nSELECT 1")
    assert isinstance(error, UsageError)
    assert str(error).endswith("write %%sql [name] [--as NAME] [--rows N] [--quiet].")


def test_sql_without_open_stage_is_refused(session: Any) -> None:
    error = session.error("%%sql\nSELECT 1")
    assert isinstance(error, StageError)
    assert str(error) == "%%sql needs an open stage; run the cell with begin(...) first."


# Naming a query


def test_named_query_can_be_read_by_later_cells(opened: Any, stage: Stage) -> None:
    shown = opened.value("%%sql few\nSELECT n FROM numbers WHERE n < 3 ORDER BY n;")
    assert rows(shown) == [(0,), (1,), (2,)]
    assert shown.total == 3
    assert rows(opened.value("%%sql\nSELECT count(*) FROM few")) == [(3,)]
    assert stage.engine.is_defined("few")


def test_named_query_with_limit_shows_its_total(opened: Any, stage: Stage) -> None:
    assert opened.value("%%sql few\nSELECT n FROM numbers LIMIT 12").total == 12


def test_quiet_named_query_has_its_name(opened: Any, stage: Stage) -> None:
    assert opened.value("%%sql silver.orders --quiet\nSELECT n FROM numbers") is None
    assert stage.engine.is_defined("silver.orders")


# Values from Python


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        ('"it\'s 7"', "text = {{ value }}"),
        ("7", "n = {{ value }}"),
        ("7.0", "n = {{value}}"),
        ("__import__('decimal').Decimal('7')", "n = {{ value }}"),
        ("{'n': 6}", "n = {{ value['n'] + 1 }}"),
        ("__import__('datetime').date(2025, 11, 7)", "n = day(CAST({{ value }} AS DATE))"),
        ("None", "n = coalesce({{ value }}, 7)"),
        ("True", "n = CASE WHEN {{ value }} THEN 7 END"),
        ("'x'", "n = 7 AND {{ value }} = 'x' AND {{ value.upper() }} = 'X'"),
    ],
)
def test_expression_in_braces_becomes_its_value(opened: Any, stage: Stage, value: str, condition: str) -> None:
    opened.value(f"value = {value}")
    assert rows(opened.value(f"%%sql\nSELECT n FROM numbers WHERE {condition}")) == [(7,)]


def test_value_cannot_break_out_of_its_quotes(opened: Any, stage: Stage) -> None:
    opened.value('value = "\' OR 1 = 1 --"')
    assert rows(opened.value("%%sql\nSELECT n FROM numbers WHERE text = {{ value }}")) == []


def test_unknown_name_in_braces_raises_a_name_error(opened: Any, stage: Stage) -> None:
    assert isinstance(opened.error("%%sql\nSELECT {{ unheard_of }}"), NameError)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("date(2025, 11, 7)", "DATE '2025-11-07'"),
        ("datetime(2025, 11, 7, 9, 30)", "TIMESTAMP '2025-11-07 09:30:00'"),
        ("datetime(2025, 11, 7, 9, 30, tzinfo=timezone.utc)", "TIMESTAMPTZ '2025-11-07 09:30:00+00:00'"),
        ("Decimal('0.10')", "0.10"),
        ("float('inf')", "CAST('inf' AS DOUBLE)"),
        ("False", "FALSE"),
        ("None", "NULL"),
        ("__import__('pandas').NaT", "NULL"),
        ('"it\'s"', "'it''s'"),
    ],
)
def test_values_become_literals_of_their_type(opened: Any, stage: Stage, value: str, literal: str) -> None:
    opened.value("from datetime import date, datetime, timezone\nfrom decimal import Decimal")
    opened.value(f"value = {value}")
    opened.run("%%sql bound --quiet\nSELECT {{ value }} AS bound")
    assert stage.definitions["bound"] == f"SELECT {literal} AS bound"


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("$run_date", date(2025, 11, 30)),
        ("$run_date - INTERVAL 1 DAY", datetime(2025, 11, 29)),
        ("$currency", "EUR"),
        ("$returns_count_on", "order_date"),
        ("$mine", "it's mine"),
        ("'costs $mine'", "costs $mine"),
        ("'it''s $mine'", "it's $mine"),
        ("$$costs $mine$$", "costs $mine"),
        ("1 -- $mine", 1),
        ("1 /* {{ nothing }} $nothing */", 1),
    ],
)
def test_dollar_name_becomes_its_value(opened: Any, stage: Stage, sql: str, value: Any) -> None:
    opened.value('mine = "it\'s mine"')
    assert rows(opened.value(f"%%sql\nSELECT {sql}")) == [(value,)]


@pytest.mark.parametrize(("name", "hint"), [("run_dat", "did you mean $run_date?"), ("zzzz", "assign it in a cell")])
def test_unknown_dollar_name_is_refused(opened: Any, stage: Stage, name: str, hint: str) -> None:
    error = opened.error(f"%%sql\nSELECT ${name}")
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"%%sql: ${name} is no parameter, variable or setting")
    assert hint in str(error)


@pytest.mark.parametrize("quoted", ["'%{{ value }}%'", '"{{ value }}"'])
def test_braces_inside_quotes_are_refused(opened: Any, stage: Stage, quoted: str) -> None:
    opened.value("value = 'x'")
    error = opened.error(f"%%sql\nSELECT {quoted}")
    assert isinstance(error, UsageError)
    assert "write it outside the quotes" in str(error)


# A DataFrame


def test_as_gives_a_data_frame_of_all_rows(opened: Any, stage: Stage) -> None:
    shown = opened.value("%%sql --as frame --rows 2\nSELECT n, n / 2 AS half FROM numbers ORDER BY n")
    assert (len(shown.rows), shown.total) == (2, 25)
    frame = opened.shell.user_ns["frame"]
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["n", "half"]
    assert frame.n.sum() == 300


def test_quiet_frame_and_a_named_one(opened: Any, stage: Stage) -> None:
    assert opened.value("%%sql few --as frame --quiet\nSELECT n FROM numbers WHERE n < 3") is None
    assert len(opened.shell.user_ns["frame"]) == 3
    assert stage.engine.is_defined("few")


@pytest.mark.parametrize("name", ["1st", "a.b", "class"])
def test_frame_needs_a_python_name(opened: Any, stage: Stage, name: str) -> None:
    error = opened.error(f"%%sql --as {name}\nSELECT 1")
    assert isinstance(error, UsageError)
    assert "the DataFrame needs a Python name" in str(error)


# Personal data


def test_restricted_values_are_shown_as_cut_pseudonyms(opened: Any, stage: Stage) -> None:
    people = pa.table({"order_id": ["1", "2", "3"], "customer_id": ["C-17", None, ""]})
    stage.raw_engine.register("landed.orders", people)
    ((key,),) = stage.engine.rows("SELECT pseudonym('C-17')")
    shown = opened.value("%%sql\nSELECT order_id, customer_id AS c FROM (SELECT * FROM landed.orders) ORDER BY order_id")
    assert [line.split() for line in repr(shown).splitlines()[2:5]] == [["1", f"{key[:8]}…"], ["2", "·"], ["3"]]
    assert "C-17" not in repr(shown) + shown._repr_html_()


@pytest.mark.parametrize("column", ["_raw", "_problem"])
def test_line_as_it_landed_is_a_pseudonym(opened: Any, stage: Stage, column: str) -> None:
    stage.raw_engine.register("landed.orders", pa.table({column: ["1;ann@example.com"]}))
    shown = opened.value("%%sql\nSELECT * FROM landed.orders")
    assert "ann@example.com" not in repr(shown) + shown._repr_html_()


# After a stage has ended


@pytest.fixture(params=["skip('the shop was closed')", "reject(['too many rows'])"])
def ended(request: pytest.FixtureRequest, opened: Any) -> Any:
    """Return a session whose stage was ended early."""
    opened.value(f"stage.{request.param}")
    return opened


@pytest.mark.parametrize(
    "cell",
    [
        "done.append(1)",
        "%%sql\nSELECT done FROM nowhere",
        "found = done.append(1)",
        "first = 1\ndone.append(first)",
        "found: list = [done.append(1)]",
        "if True:\n    done.append(1)",
    ],
)
def test_cell_is_not_run_after_early_end(ended: Any, cell: str) -> None:
    ended.shell.user_ns["done"] = []
    assert ended.value(cell) is None
    assert ended.shell.user_ns["done"] == []
    assert ended.printed == f"Not run: the stage has ended as {stages.current.ended}.\n"


@pytest.mark.parametrize(
    "cell", ['run_date = "2025-12-01"', '# Parameters\nenv = "local"\nrun_date: str = "2025-12-01"\nx = {}\n']
)
def test_parameters_cell_runs_after_early_end(ended: Any, cell: str) -> None:
    ended.value(cell)
    assert ended.shell.user_ns["run_date"] == "2025-12-01"


def test_opening_a_stage_lets_cells_run_again(ended: Any) -> None:
    ended.begin()
    assert ended.value("1 + 1") == 2


def test_cells_run_after_success(opened: Any) -> None:
    opened.value("stage.succeed(rows_in=1, rows_out=1)")
    assert opened.value("1 + 1") == 2


def test_cells_run_without_a_stage(session: Any) -> None:
    assert session.value("1 + 1") == 2


def test_preview_cuts_pseudonyms_under_any_name(opened: Any) -> None:
    listing = opened.value(f"%%sql\nSELECT '{'0123abcd' * 4}' AS key, ['{'4567abcd' * 4}'] AS keys, 'Berlin' AS city")
    shown = repr(listing)
    assert "0123abcd…" in shown
    assert "4567abcd…" in shown
    assert "Berlin" in shown
    assert "abcd0123" not in shown + listing._repr_html_()


# Details for the record


def test_failing_cell_records_what_was_read_and_written(opened: Any, stage: Stage) -> None:
    stage.lake.tables_written["bronze.orders"] = 4
    opened.error("1 / 0")
    (result,) = [output[RESULT_MIME] for output in opened.outputs if RESULT_MIME in output]
    assert (result["stage"], result["outcome"], result["tables_written"]) == ("ingest", "FAILED", {"bronze.orders": 4})


def test_successful_cell_records_no_result(opened: Any, stage: Stage) -> None:
    opened.value("1 + 1")
    assert opened.outputs == []


def test_failing_cell_after_the_end_keeps_the_result(opened: Any) -> None:
    opened.value("stage.succeed(rows_in=1, rows_out=1)")
    opened.error("1 / 0")
    assert [output for output in opened.outputs if RESULT_MIME in output] == []


def test_error_is_shown_without_frames_of_the_package(opened: Any) -> None:
    opened.error("%%sql\nSELECT * FROM nowhere_at_all")
    assert "SqlError: There is no table nowhere_at_all" in opened.printed
    assert "duckdb.py" not in opened.printed


def test_cell_that_shuts_its_kernel_down_fails(session: Session) -> None:
    assert isinstance(session.error("get_ipython().exit_now = True"), SystemExit)


def test_jupyter_may_shut_a_kernel_down(session: Session) -> None:
    # The request of Jupyter arrives in another thread.
    stop = "import threading\nthread = threading.Thread(target=setattr, args=(get_ipython(), 'exit_now', True))\nthread.start()"
    session.value(f"{stop}\nthread.join()")
    assert session.shell.exit_now
