"""Test which rows ``daybook compare`` compares, and its output, pages, errors and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import Lake, development_user
from daybook.records.archive import Archive
from daybook.review.comparison import compare_development_copy
from daybook.settings import load_settings
from tests.cli.conftest import Call
from tests.lake.tables import CUSTOMERS, FIRST, PAYMENTS, PRODUCTS, SECOND, THIRD, Version, customers, payments, products
from tests.lake.vacuuming import age_commit, list_data_files
from tests.sample_records import attempt_record, run_record

GOLD, SILVER = "gold.payment_mix", "silver.products"
PSEUDONYM = "0123456789abcdef" * 2


@pytest.fixture
def published(home: Path) -> Lake:
    """Return a lake with three dates of gold, and two products that landed on the first two."""
    lake = run("daily-2025-11-01-1")
    publish(lake, PAYMENTS, payments((FIRST, "1.10"), (SECOND, "2.20"), (THIRD, "3.30")), [FIRST, SECOND, THIRD])
    merge(lake, PRODUCTS, products(FIRST, Version("p1", "Lamp", 1), Version("p2", "Sofa", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("p2", "Sofa bed", 30)), dates=[SECOND])
    return lake


def run(run_id: str) -> Lake:
    """Return the lake as a run writes it."""
    return Lake(load_settings("local").lake, run_id=run_id)


@pytest.fixture
def copy(published: Lake) -> Lake:
    """Return a development copy that computed the second date with another amount and renamed the product that landed on it."""
    lake = Lake(published.root, development=development_user())
    publish(lake, PAYMENTS, payments((SECOND, "2.25")), [SECOND])
    merge(lake, PRODUCTS, products(SECOND, Version("p2", "Bed", 30)), dates=[SECOND])
    # Later runs publish what the copy has not computed.
    publish(run("daily-2025-11-03-1"), PAYMENTS, payments((THIRD, "9.90")), [THIRD])
    merge(run("daily-2025-11-03-1"), PRODUCTS, products(THIRD, Version("p3", "Rug", 50)), dates=[THIRD])
    return lake


def record_run(run_id: str, *, dates: tuple[str, ...] = (), outcome: str = "SUCCEEDED", **written: int) -> None:
    """Archive the record of a run that wrote these versions, by the names of tables with ``__`` for the dot."""
    archive = Archive(load_settings("local").archive)
    versions = {name.replace("__", "."): version for name, version in written.items()}
    stage = attempt_record("quality", tables_written=versions, details={"published_dates": list(dates)})
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    archive.start_named_run(run_id, {"env": "local"})
    archive.write_run(run_record(run_id, outcome, stages=[stage], ended_at=now, started_at=now))


def read_json(call: Call, *arguments: str) -> dict[str, Any]:
    code, out, err = call("compare", *arguments, "--json")
    assert code == 0, err
    return dict(json.loads(out))


def tables_of(comparison: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return by table the rows before and after, and the numbers of rows added, removed and changed."""
    counts = ("rows_before", "rows_after", "added", "removed", "changed")
    return {each["table"]: tuple(each[count] for count in counts) for each in comparison["tables"]}


# The development copy


def test_copy_is_compared_for_its_dates_only(copy: Lake, call: Call) -> None:
    found = read_json(call)
    assert (found["before"], found["after"]) == ("published", f"development copy of {development_user()}")
    assert (found["schema_version"], found["dates"]) == (1, ["2025-11-02"])
    assert tables_of(found) == {GOLD: (1, 1, 0, 0, 1), SILVER: (1, 1, 0, 0, 1)}
    gold, silver = found["tables"]
    amount = next(each for each in gold["columns"] if each["column"] == "amount")
    assert (amount["total_before"], amount["total_after"]) == ("2.2000", "2.2500")
    (sample,) = silver["samples"]
    assert (sample["key"], sample["before"], sample["after"]) == ({"product_id": "p2"}, {"name": "Sofa bed"}, {"name": "Bed"})


def test_key_that_landed_again_on_another_date_is_paired(copy: Lake, call: Call) -> None:
    merge(run("daily-2025-11-03-2"), PRODUCTS, products(THIRD, Version("p2", "Sofa", 60)), dates=[THIRD])
    found = read_json(call, "--table", SILVER)
    assert tables_of(found) == {SILVER: (1, 1, 0, 0, 1)}


def test_dates_restrict_the_comparison_of_a_copy(copy: Lake) -> None:
    publish(copy, PAYMENTS, payments((THIRD, "4")), [THIRD])
    found = compare_development_copy(load_settings("local"), development_user(), [THIRD])
    (gold,) = found.tables
    assert (found.dates, gold.table, gold.rows_after, gold.changed) == ([THIRD], GOLD, 1, 1)


def test_column_removed_from_the_contract_is_a_schema_change(copy: Lake, call: Call) -> None:
    for lake in (copy, run("daily-2025-11-02-2")):
        DeltaTable(lake.uri(GOLD)).alter.add_columns(_text_field("fee"))
        DeltaTable(lake.uri(GOLD)).alter.add_columns(_text_field("unused"))
    DeltaTable(run("daily-2025-11-02-2").uri(GOLD)).update({"fee": "'1.50'"})
    (gold,) = read_json(call, "--table", GOLD)["tables"]
    assert gold["schema_changes"] == [{"column": "fee", "before": "VARCHAR", "after": None}]
    assert "1.50" not in json.dumps(gold["samples"])


def _text_field(name: str) -> Any:
    from deltalake import Field
    from deltalake.schema import PrimitiveType

    return Field(name, PrimitiveType("string"), nullable=True)


def test_copy_without_dates_is_a_usage_error(published: Lake, call: Call) -> None:
    code, _, err = call("compare")
    assert (code, "has computed none of the dates" in err) == (2, True)


def test_table_that_the_copy_lacks_is_an_error(copy: Lake, call: Call) -> None:
    code, _, err = call("compare", "--table", "silver.orders")
    assert (code, "has not computed silver.orders" in err) == (2, True)
    assert call("compare", "--table", "silver.nothing")[0] == 2


# Two runs


def test_runs_are_compared_at_their_versions(published: Lake, call: Call) -> None:
    gold, silver = version(published, GOLD), version(published, SILVER)
    second = run("daily-2025-11-02-1")
    publish(second, PAYMENTS, payments((SECOND, "5")), [SECOND])
    record_run("daily-2025-11-01-1", dates=("2025-11-01",), gold__payment_mix=gold, silver__products=silver)
    record_run("daily-2025-11-02-1", dates=("2025-11-02",), gold__payment_mix=version(second, GOLD))
    publish(run("daily-2025-11-03-1"), PAYMENTS, payments((SECOND, "6")), [SECOND])
    found = read_json(call, "daily-2025-11-01-1", "daily-2025-11-02-1")
    assert (found["before"], found["after"]) == ("after daily-2025-11-01-1", "after daily-2025-11-02-1")
    # The second run did not write silver, which is compared with its state at the end of that run.
    assert tables_of(found) == {GOLD: (2, 2, 0, 0, 1), SILVER: (2, 2, 0, 0, 0)}
    assert found["tables"][0]["samples"][0]["after"] == {"amount": "5.0000"}


def version(lake: Lake, table: str) -> int:
    return lake.version(table) or 0


def test_runs_that_published_nothing_are_an_error(published: Lake, call: Call) -> None:
    for number in (1, 2):
        record_run(f"daily-2025-11-01-{number}", outcome="SKIPPED")
    code, _, err = call("compare", "daily-2025-11-01-1", "daily-2025-11-01-2")
    assert (code, "has written a silver or gold table" in err) == (2, True)


# An earlier version


def test_version_is_compared_with_what_is_published(copy: Lake, call: Call) -> None:
    found = read_json(call, "--against", "1", "--table", GOLD)
    assert (found["before"], found["after"], found["dates"]) == ("version 1", "published", None)
    assert tables_of(found) == {GOLD: (3, 3, 0, 0, 1)}


def test_date_is_its_end_in_utc(published: Lake, call: Call) -> None:
    publish(run("daily-2025-11-02-1"), PAYMENTS, payments((SECOND, "5")), [SECOND])
    for number, moment in enumerate(["2025-11-01T12:00", "2025-11-02T23:59:59", "2025-11-03T00:00"]):
        commit_at(published, number, moment)
    assert tables_of(read_json(call, "--against", "2025-11-02", "--table", GOLD)) == {GOLD: (3, 3, 0, 0, 1)}
    assert tables_of(read_json(call, "--against", "2025-11-03", "--table", GOLD)) == {GOLD: (3, 3, 0, 0, 0)}
    (created,) = read_json(call, "--against", "2025-10-31", "--table", GOLD)["tables"]
    assert (created["added"], len(created["schema_changes"])) == (3, 6)


def commit_at(lake: Lake, number: int, moment: str) -> None:
    """Set the time of a commit of gold, in UTC."""
    age_commit(lake.uri(GOLD), number, 0, datetime.fromisoformat(f"{moment}+00:00"))


def test_version_without_files_is_one_sentence(copy: Lake, call: Call) -> None:
    uri = run("daily-2025-11-03-1").uri(GOLD)
    kept = set(DeltaTable(uri).file_uris())
    for file in list_data_files(uri):
        if f"{uri}/{file}" not in kept:
            (Path(uri) / file).unlink()
    code, _, err = call("compare", "--against", "1", "--table", GOLD)
    assert (code, err.count("\n")) == (1, 1)
    assert "Version 1 of gold.payment_mix" in err and "can no longer be read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "1"], "name one with --table"),
        (["--against", "1", "--table", GOLD, "--table", SILVER], "name one with --table"),
        (["--against", "99", "--table", GOLD], "has versions up to 1"),
        (["--against", "1", "--table", "silver.orders"], "does not exist"),
        (["--against", "yesterday"], "is not a business date"),
        (["daily-2025-11-01-1"], "Name two runs"),
        (["daily-2025-11-01-1", "daily-2025-11-02-1", "--against", "1"], "not both"),
        (["daily-2025-11-01-1", "daily-2025-11-02-1"], "There is no run daily-2025-11-01-1"),
    ],
)
def test_usage_errors_name_the_option(published: Lake, call: Call, arguments: list[str], message: str) -> None:
    code, _, err = call("compare", *arguments)
    assert (code, message in err) == (2, True), err


# Output


def test_terminal_shows_totals_to_the_cent(copy: Lake, call: Call) -> None:
    code, out, _ = call("compare")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["amount"] == ["1", "2.20", "2.25", "+0.05", "order_date=2025-11-02,", "method=card:", "2.2000", "→", "2.2500"]
    assert re.search(r"changed +product_id=p2 +name: Sofa bed → Bed", out)


def test_fail_on_change_is_the_exit_code(copy: Lake, call: Call) -> None:
    assert call("compare", "--fail-on-change")[0] == 1
    code, out, _ = call("compare", "--against", "2", "--table", GOLD, "--fail-on-change")
    assert (code, out.splitlines()[-1]) == (0, "✓ 1 table without differences.")


def test_number_of_sample_rows_is_an_option(copy: Lake, call: Call) -> None:
    (gold,) = read_json(call, "--table", GOLD, "--rows", "0")["tables"]
    assert (gold["changed"], gold["samples"]) == (1, [])


def test_page_is_one_file_without_resources(copy: Lake, call: Call, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "comparison.html"
    code, out, _ = call("compare", "--html", str(page))
    assert (code, out.splitlines()[-1]) == (0, f"Page: {page}")
    text = page.read_text(encoding="utf-8")
    assert "2 of 2 tables differ" in text and "name: Sofa bed → Bed" in text
    assert not re.search(r"https?://|<script|<link(?! rel=\"icon\" href=\"data:)", text)


def test_pseudonyms_are_shortened_everywhere(published: Lake, call: Call, tmp_path: Path) -> None:
    copy = Lake(published.root, development=development_user())
    merge(copy, CUSTOMERS, customers(SECOND, PSEUDONYM, "not a pseudonym", city="Graz"), dates=[SECOND])
    page = tmp_path / "comparison.html"
    printed = call("compare", "--html", str(page))[1] + call("compare", "--json")[1] + page.read_text(encoding="utf-8")
    assert "012345…" in printed
    assert PSEUDONYM[:7] not in printed and "not a pseudonym" not in printed
