"""Test ``daybook rollback`` on runs of the demo shop and of Online Retail, and what other commands say afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import jsonschema
import pytest

from daybook.records.schemas import render_schemas
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.content import hash_tables
from tests.runs.shop import DaybookHome, run_command

Call = Callable[..., tuple[int, str, str]]


def test_reason_is_required(home: Path, call: Call) -> None:
    code, _, err = call("rollback", "daily-2025-11-30-1")
    assert (code, err) == (2, "A rollback needs a reason: --reason TEXT.\n")


@pytest.mark.parametrize("arguments", [[], ["daily-2025-11-30-1", "--to", "3"], ["--table", "gold.daily_sales"], ["--to", "3"]])
def test_run_or_table_with_version_is_required(home: Path, call: Call, arguments: list[str]) -> None:
    code, _, err = call("rollback", *arguments, "--dry-run")
    assert (code, err) == (2, "Give either RUN_ID, or --table TABLE and --to VERSION.\n")


def test_json_asks_for_yes(home: Path, call: Call) -> None:
    code, _, err = call("rollback", "daily-2025-11-30-1", "--reason", "x", "--json")
    assert (code, err) == (2, "--json cannot ask for confirmation; add --yes or --dry-run.\n")


def test_unknown_run_and_table_are_refused(home: Path, call: Call) -> None:
    code, _, err = call("rollback", "daily-2025-11-30-1", "--dry-run")
    assert (code, err) == (2, "There is no run daily-2025-11-30-1; `daybook runs` lists them.\n")
    code, _, err = call("rollback", "--table", "gold.sales", "--to", "1", "--dry-run")
    assert code == 2
    assert err.startswith("gold.sales is no gold table; --table takes one of: gold.")


class Shop:
    """A deployment whose runs a test takes back with the command."""

    def __init__(self, home: DaybookHome, env: str, capsys: pytest.CaptureFixture[str], *options: str) -> None:
        self.home, self.env, self._capsys, self._options = home, env, capsys, options

    def call(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            return run_command(patch, self._capsys, *arguments, "--env", self.env, *self._options)

    def run(self, day: str) -> None:
        code, out, err = self.call("run", "--date", day)
        assert code == 0, out + err

    def dates(self) -> list[str]:
        """Return the dates that readers of gold see."""
        return [str(day) for (day,) in self.home.engine(self.env).rows("SELECT order_date FROM gold.daily_sales ORDER BY 1")]

    def tables(self) -> dict[str, str]:
        """Return a digest of each table of silver and gold."""
        return hash_tables(self.home.engine(self.env))


@pytest.mark.slow
def test_newest_run_of_the_demo_shop_is_taken_back(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(Path(load_settings("local").landing), seed=7, days=5, orders_per_day=20)
    shop = Shop(DaybookHome(home), "local", capsys)
    for day in ("2025-11-28", "2025-11-29"):
        shop.run(day)
    before = shop.tables()
    shop.run("2025-11-30")
    published = shop.tables()
    run_id = "daily-2025-11-30-1"

    code, out, _ = shop.call("rollback", run_id, "--dry-run", "--json")
    (plan,) = json.loads(out)["rollbacks"]
    assert (code, plan["removed_dates"], shop.tables()) == (0, ["2025-11-30"], published)
    assert set(plan["restored_dates"]) <= {"2025-11-28", "2025-11-29"}

    code, out, _ = shop.call("rollback", run_id, "--reason", "Sunday is without tax", "--by", "a steward", "--yes", "--json")
    (record,) = json.loads(out)["rollbacks"]
    assert (code, record["stale_dates"], record["stale_tables"]) == (0, [], [])
    schema = json.loads(render_schemas()["rollback.json"])
    jsonschema.Draft202012Validator(schema).validate(record)
    assert shop.tables() == before

    sentence = "Sunday is without tax; no earlier run of its date is published."
    assert sentence in shop.call("show", run_id)[1]
    assert sentence in (Path(load_settings("local").report) / "runs" / f"{run_id}.html").read_text()
    assert "o-rolled-back" in (Path(load_settings("local").report) / "index.html").read_text()
    assert "ROLLED BACK" in shop.call("runs")[1]
    events = (home / "archive" / "run_date=2025-11-30" / run_id / "openlineage.rollback.jsonl").read_text().splitlines()
    assert [json.loads(each)["eventType"] for each in events] == ["START", "COMPLETE"]
    assert "daily-2025-11-29-1" in shop.call("lineage", "gold.daily_sales.orders")[1]
    assert "missing" in shop.call("status", "--at", "2025-12-03T09:00")[1]

    options = ["--since", "2025-11-28", "--until", "2025-11-30"]
    code, out, _ = shop.call("gaps", *options, "--json")
    (gap,) = json.loads(out)["gaps"]
    assert (gap["run_date"], gap["reason"], gap["catch_up"]) == ("2025-11-30", "rolled back", False)
    assert shop.call("catch-up", *options)[0] == 0
    assert shop.tables() == before
    assert shop.call("rollback", run_id, "--reason", "again", "--yes")[0] == 2

    shop.run("2025-11-30")
    assert shop.tables() == published
    assert shop.call("gaps", *options)[0] == 0


@pytest.mark.slow
def test_days_of_online_retail_are_taken_back(home: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first of two later dates, with orders that are cancelled on the second one, then both by the version."""
    shop = Shop(DaybookHome(home), "online_retail", capsys, "--set", f"landing={shared_data / 'online_retail'}")
    shop.run("2010-12-01")
    first, version = shop.tables(), shop.home.engine("online_retail").lake.version("gold.daily_sales")
    for day in ("2010-12-02", "2010-12-03"):
        shop.run(day)
    whole = shop.tables()

    code, out, err = shop.call("rollback", "daily-2010-12-02-1", "--reason", "lines are missing", "--yes")
    assert code == 0, err
    assert shop.dates() == ["2010-12-01", "2010-12-03"]
    shop.run("2010-12-02")
    assert shop.tables() == whole

    options = ["--table", "gold.daily_sales", "--to", str(version), "--reason", "all of it", "--yes"]
    code, out, err = shop.call("rollback", *options)
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines() if line.startswith("✓")] == [
        "daily-2010-12-02-2",
        "daily-2010-12-03-1",
    ]
    assert shop.tables() == first
    assert shop.call("rollback", *options)[0] == 2
