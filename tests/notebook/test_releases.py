"""Test the list of rows in quarantine, and the release of rows as repaired or accepted."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Callable

import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine
from daybook.errors import UsageError
from daybook.execution.decisions import QuarantinedRow, list_quarantined_rows, release_rows
from daybook.lake.tables import Lake
from daybook.notebook.releases import Release, list_landed_columns, read_releases, write_releases
from tests.lake.writing import replace_date
from tests.notebook.decisions import DAY, Shop, daybook, landing, shop

pytestmark = pytest.mark.slow

__all__ = ["daybook", "landing", "shop"]

RUN = f"daily-{DAY}"
Command = Callable[..., str]


def spoil(shop: Shop, entity: str, number: int, **values: str) -> dict[str, str]:
    """Change a row of the file of the day; return the original row."""
    path = shop.file(entity)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    sound = dict(rows[number - 1])
    rows[number - 1].update(values)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(sound))
        writer.writeheader()
        writer.writerows(rows)
    return sound


def in_quarantine(shop: Shop, entity: str, number: int) -> list[QuarantinedRow]:
    found = list_quarantined_rows(shop.settings, run_date=date.fromisoformat(DAY), entity=entity)
    return [each for each in found if each.row_number == number]


def line(shop: Shop, row: dict[str, str]) -> list[tuple[object, ...]]:
    return shop.engine().rows(
        f"SELECT quantity, unit_price FROM silver.order_items WHERE order_id = '{row['order_id']}' "
        f"AND line_number = {row['line_number']}"
    )


def test_repaired_row_passes_in_this_and_later_runs(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1")
    (found,) = in_quarantine(shop, "order_items", number)
    assert found.rules == ("quantity is an integer",)
    assert line(shop, sound) == []
    before = shop.details["validate"]["accounting"]["order_items"]

    release_rows(shop.settings, [found], repairs={"quantity": "3"}, by="a steward", why="the shop said so")
    for again in (2, 3):
        shop.run(f"{RUN}-{again}")
        assert in_quarantine(shop, "order_items", number) == []
        ((quantity, _),) = line(shop, sound)
        assert quantity == 3
    after = shop.details["validate"]["accounting"]["order_items"]
    assert after == {**before, "accepted": before["accepted"] + 1, "quarantined": before["quarantined"] - 1}
    (kept,) = read_releases(shop.engine(), shop.engine().lake, date.fromisoformat(DAY))
    assert (kept.released_by, kept.why, kept.repairs) == ("a steward", "the shop said so", {"quantity": "3"})


def test_row_is_accepted_for_its_broken_rules_only(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="5000")
    shop.run(f"{RUN}-1")
    (found,) = in_quarantine(shop, "order_items", number)
    assert found.rules == ("quantity is at most 1,000",)
    release_rows(shop.settings, [found], repairs={}, by="a steward", why="a whole pallet")
    shop.run(f"{RUN}-2")
    ((quantity, _),) = line(shop, sound)
    assert quantity == 5000

    spoil(shop, "order_items", number, unit_price="-1")
    shop.run(f"{RUN}-3")
    (again,) = in_quarantine(shop, "order_items", number)
    assert again.rules == ("quantity is at most 1,000", "unit_price is at least 0")


def test_row_with_a_final_finding_needs_a_repair(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    with pytest.raises(UsageError, match=r"cannot be accepted as it is.*quantity is an integer.*--fix COLUMN=VALUE"):
        release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={}, by="a steward", why="why not")


def test_row_with_an_invalid_repair_stays_in_quarantine(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={"quantity": "-1"}, by="a", why="b")
    shop.run(f"{RUN}-2", ["validate"])
    (found,) = in_quarantine(shop, "order_items", number)
    assert found.rules == ("quantity is at least 1",)


def test_release_does_not_apply_to_a_changed_row(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={"quantity": "3"}, by="a", why="b")
    spoil(shop, "order_items", number, quantity="four")
    shop.run(f"{RUN}-2", ["ingest", "validate"])
    assert len(in_quarantine(shop, "order_items", number)) == 1


def test_release_survives_a_new_column(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={"quantity": "3"}, by="a", why="b")
    lake = Lake(str(shop.place / "lake"))
    other = pa.table({"order_id": ["x"], "colour": ["red"], "_source_file": ["later.csv"], "_row_number": [1]})
    replace_date(lake, "bronze.order_items", other, date(2025, 12, 1))
    assert len(in_quarantine(shop, "order_items", number)) == 1
    shop.run(f"{RUN}-2", ["validate"])
    assert in_quarantine(shop, "order_items", number) == []


def test_concurrent_releases_are_both_kept(shop: Shop) -> None:
    numbers = [shop.valid_row("order_items"), shop.valid_row("order_items") + 20]
    for number in numbers:
        spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    first, second = (in_quarantine(shop, "order_items", number) for number in numbers)
    engine, lake = shop.engine(), shop.engine().lake
    read_releases(engine, lake, date.fromisoformat(DAY))  # what one of them has seen before the other writes
    release_rows(shop.settings, first, repairs={"quantity": "3"}, by="a", why="b")
    release_rows(shop.settings, second, repairs={"quantity": "4"}, by="c", why="d")
    release_rows(shop.settings, first, repairs={"quantity": "5"}, by="a", why="again")
    kept = read_releases(shop.engine(), lake, date.fromisoformat(DAY))
    assert sorted(each.repairs["quantity"] for each in kept) == ["4", "5"]


def test_release_without_a_matching_row_is_reported(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={"quantity": "3"}, by="a", why="b")
    spoil(shop, "order_items", number, quantity="2")
    shop.run(f"{RUN}-2", ["ingest", "validate"])
    assert "order_items: 1 released rows are no longer in the landing, or have changed" in shop.details["validate"]["warnings"]


def test_release_survives_a_run_that_dies(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1")
    release_rows(shop.settings, in_quarantine(shop, "order_items", number), repairs={"quantity": "3"}, by="a", why="b")
    for reached in (["validate"], ["validate", "transform"], ["validate", "transform", "aggregate"]):
        shop.run(f"{RUN}-2", reached)
    shop.run(f"{RUN}-3", ["validate", "transform", "aggregate", "quality"])
    assert len(line(shop, sound)) == 1
    (sold,) = shop.engine().fetch_row(f"SELECT units FROM gold.daily_sales WHERE order_date = DATE '{DAY}'")
    (lines,) = shop.engine().fetch_row(
        "SELECT sum(quantity) FROM silver.order_items AS i JOIN silver.orders AS o ON o.order_id = i.order_id "
        f"WHERE o.order_date = DATE '{DAY}' AND quantity > 0 AND unit_price > 0 AND status <> 'cancelled'"
    )
    assert sold == lines


def test_list_has_rules_and_values_but_no_personal_data(shop: Shop, daybook: Command) -> None:
    number = shop.valid_row("customers")
    person = spoil(shop, "customers", number, registered_at="yesterday")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    listed = daybook(["quarantine", "list", "--entity", "customers", "--date", DAY, *shop.options])
    assert "registered_at is a timestamp" in listed
    assert f"city={person['city']}" in listed
    assert person["email"] not in listed
    assert person["last_name"] not in listed
    rows = json.loads(daybook(["quarantine", "list", "--rule", "registered_at", "--json", *shop.options]))
    assert (number, "customers") in [(each["row_number"], each["entity"]) for each in rows]
    assert all("email" not in each["values"] for each in rows)


MISTAKES = [
    (["order_items"], "Select rows with --row NUMBER, or with --rule TEXT for all rows that break a rule."),
    (["order_items", "--row", "99999"], f"order_items row 99999 of {DAY} is not in quarantine"),
    (["order_items", "--rule", "no such rule"], "No row in quarantine matches; `daybook quarantine list` shows all."),
    (["invoices", "--rule", "x"], "There is no entity 'invoices'; the source demo has: orders, order_items"),
    (["order_items", "--rule", "is an integer", "--fix", "quantity"], "--fix quantity has no value"),
    (["order_items", "--rule", "is an integer", "--fix", "colour=red"], "order_items has no column 'colour'"),
]


def test_impossible_release_is_reported_and_starts_nothing(shop: Shop, daybook: Command) -> None:
    spoil(shop, "order_items", shop.valid_row("order_items"), quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    for arguments, expected in MISTAKES:
        output = daybook(["quarantine", "release", *arguments, "--date", DAY, "--why", "x", *shop.options], exit_code=2)
        assert expected in output
    assert read_releases(shop.engine(), shop.engine().lake, date.fromisoformat(DAY)) == []
    assert not (shop.place / "archive").exists()


def test_release_can_wait_for_the_next_run(shop: Shop, daybook: Command) -> None:
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1")
    arguments = ["quarantine", "release", "order_items", "--date", DAY, "--row", str(number), "--fix", "quantity=2"]
    assert "1 row is released" in daybook([*arguments, "--why", "asked", "--no-run", *shop.options])
    shop.run(f"{RUN}-2")
    ((quantity, _),) = line(shop, sound)
    assert quantity == 2


def test_last_written_release_counts_if_the_clock_went_back(tmp_path: Path) -> None:
    lake, day = Lake(str(tmp_path / "lake"), run_id=f"{RUN}-1"), date.fromisoformat(DAY)
    for at, quantity in (
        ("2025-12-01T09:00:00.000Z", "2"),
        ("2025-12-01T02:00:00.000Z", "3"),
        ("2025-12-01T02:00:00.000Z", "4"),
    ):
        engine = DuckDBEngine(lake, "UTC")
        write_releases(engine, lake, day, [Release("order_items", "f.csv", 1, "d", {"quantity": quantity}, (), "a", "b", at)])
    (kept,) = read_releases(DuckDBEngine(lake, "UTC"), lake, day)
    assert (kept.repairs, kept.released_at) == ({"quantity": "4"}, "2025-12-01T09:00:00.002Z")


def rename_in_file(shop: Shop, entity: str, old: str, new: str) -> None:
    path = shop.file(entity)
    header, rows = path.read_text(encoding="utf-8-sig").split("\n", 1)
    assert old in header
    path.write_text(f"{header.replace(old, new)}\n{rows}", encoding="utf-8")


def test_release_holds_for_columns_in_another_case(shop: Shop) -> None:
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1")
    (found,) = in_quarantine(shop, "order_items", number)
    release_rows(shop.settings, [found], repairs={"QUANTITY ": "3"}, by="a steward", why="the shop said so")
    rename_in_file(shop, "order_items", "unit_price", "Unit_Price")
    shop.run(f"{RUN}-2")
    assert in_quarantine(shop, "order_items", number) == []
    ((quantity, _),) = line(shop, sound)
    assert quantity == 3


def test_release_of_an_earlier_version_holds(shop: Shop) -> None:
    """Its digest includes the names of columns in their stored case."""
    rename_in_file(shop, "order_items", "quantity", "quantity,Colour")
    path = shop.file("order_items")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    at = header.split(",").index("quantity")
    path.write_text("\n".join([header, *(",".join(_with(row.split(","), at)) for row in rows)]), encoding="utf-8")
    number = shop.valid_row("order_items")
    sound = spoil(shop, "order_items", number, quantity="three")
    shop.run(f"{RUN}-1", ["ingest", "validate"])
    (found,) = in_quarantine(shop, "order_items", number)
    engine = shop.engine()
    columns = list_landed_columns(engine, "bronze.order_items")
    assert "Colour" in columns
    texts = ", ".join(f"'{name}=' || \"{name}\"" for name in sorted(columns))
    (digest,) = engine.fetch_row(
        f"SELECT md5(concat_ws('\x1f', {texts})) FROM bronze.order_items WHERE _row_number = {number} AND run_date = '{DAY}'"
    )
    assert digest != found.digest
    release_rows(
        shop.settings, [replace(found, digest=digest)], repairs={"quantity": "3"}, by="a steward", why="the shop said so"
    )
    shop.run(f"{RUN}-2")
    assert in_quarantine(shop, "order_items", number) == [] and line(shop, sound)[0][0] == 3


def _with(row: list[str], at: int) -> list[str]:
    return [*row[: at + 1], "red", *row[at + 1 :]]
