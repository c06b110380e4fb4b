"""Test each reason of a gap with the command, on made-up archives and landings, and the selection of a catch-up."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest

from daybook.cli import main
from daybook.errors import UsageError
from daybook.records import fingerprint as fingerprints
from daybook.records.archive import Archive, serialize_record
from daybook.records.fingerprint import compute_fingerprint, package_versions
from daybook.records.locks import DateLocks
from daybook.records.models import InputFile
from daybook.scheduling.gaps import Gap, GapReport, InputChange, find_gaps, group_gaps, read_runs_of_date, select_for_catch_up
from daybook.settings import load_settings
from daybook.sources import load_source
from daybook.storage import Store
from tests.range_records import build_attempts, build_range_record
from tests.sample_records import rollback_record, run_record

DAY = date(2025, 11, 28)
NOW = datetime(2025, 12, 24, 12, tzinfo=timezone.utc)
ENTITIES = ("orders", "order_items", "payments", "returns", "reviews", "customers", "products", "categories", "sellers")
HOUR = timedelta(hours=1)


class Shop:
    """A deployment whose landing and archive a test fills, and the command on it."""

    def __init__(self, env: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.env = env
        self.settings = load_settings(env)
        self.landing = Path(self.settings.landing)
        self.archive = Archive(self.settings.archive)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def deliver(self, file: str, text: str = "some rows") -> str:
        path = self.landing / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return file

    def deliver_day(self, day: date = DAY) -> list[str]:
        """Deliver all files of a day of the demo shop."""
        return [self.deliver(f"{name}/{day}/{name}.csv") for name in ENTITIES]

    def inputs(self, files: list[str]) -> list[dict[str, Any]]:
        """Return the files as ingest records them when it reads them now."""
        contents = {file: (self.landing / file).read_bytes() for file in files}
        return [
            {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": 1}
            for file, data in contents.items()
        ]

    def run(
        self,
        outcome: str = "SUCCEEDED",
        read: Optional[list[str]] = None,
        *,
        day: date = DAY,
        reasons: tuple[str, ...] = (),
        ingest: Optional[str] = None,
        after: timedelta = timedelta(0),
        **changes: Any,
    ) -> str:
        """Add a closed run whose ingest read these files ``after`` from now; without files, it began at a later stage."""
        run_id = self.archive.start_run(day, {})
        stages = []
        if read is not None:
            at = (datetime.now(timezone.utc) + after).isoformat()
            ended = ingest or ("SKIPPED" if outcome == "SKIPPED" else "SUCCEEDED")
            stages = [{"stage": "ingest", "outcome": ended, "started_at": at, "inputs": self.inputs(read)}]
        computed_by = {"fingerprint": compute_fingerprint(self.settings), "packages": package_versions()}
        values = {"reasons": list(reasons), "stages": stages, **computed_by, **changes}
        self.archive.write_run(run_record(run_id, outcome, **values))
        return run_id

    def __call__(self, *arguments: str, day: date = DAY) -> tuple[int, str]:
        """Run ``daybook gaps`` on one date; return exit code and output."""
        given = ["gaps", "--env", self.env, "--since", str(day), "--until", str(day), *arguments]
        self._monkeypatch.setattr(sys, "argv", ["daybook", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        assert printed.err == ""
        return int(ended.value.code or 0), printed.out

    def gap(self, day: date = DAY) -> dict[str, Any]:
        """Return the only gap of the date."""
        code, out = self("--json", day=day)
        (gap,) = json.loads(out)["gaps"]
        assert (code, gap["run_date"]) == (1, str(day))
        return gap

    def assert_none(self, day: date = DAY) -> None:
        code, out = self("--json", day=day)
        assert (code, json.loads(out)["gaps"]) == (0, [])


@pytest.fixture
def make_shop(home: Path, project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda env: Shop(env, monkeypatch, capsys)


@pytest.fixture
def shop(make_shop: Any) -> Shop:
    """Return the demo shop, whose source has files per day, some of them optional."""
    return make_shop("local")


# The reasons


def test_date_with_a_successful_run_is_not_a_gap(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    assert shop() == (0, "No gaps: 1 date is expected from 2025-11-28 to 2025-11-28.\n")


def test_date_without_a_run_is_a_gap(shop: Shop) -> None:
    shop.deliver_day()
    assert shop.gap() == {
        "run_date": "2025-11-28",
        "weekday": "Friday",
        "reason": "never ran",
        "detail": "its files are there",
        "newest_run": None,
        "catch_up": True,
        "change": None,
    }


def test_date_without_run_and_files_has_that_detail(shop: Shop) -> None:
    assert shop.gap()["detail"] == "no file of orders has landed"


def test_failed_date_has_the_reason_of_its_run(shop: Shop) -> None:
    files = shop.deliver_day()
    run_id = shop.run("FAILED", files, reasons=("transform failed in cell 4", "and then"))
    gap = shop.gap()
    assert (gap["reason"], gap["newest_run"]) == ("failed", run_id)
    assert gap["detail"] == "transform failed in cell 4 (and 1 more)"


def test_failed_rerun_names_the_run_that_published(shop: Shop) -> None:
    files = shop.deliver_day()
    good = shop.run(read=files)
    shop.run("REJECTED", files)
    shop.run("FAILED", files, reasons=("the disk is full.",))
    gap = shop.gap()
    assert gap["reason"] == "failed"
    assert gap["detail"] == f"the disk is full; the tables of {good} are still published"


def test_date_of_a_lost_run_has_failed(shop: Shop) -> None:
    shop.run("FAILED", shop.deliver_day(), reasons=("lost: its process is gone",), state="lost")
    assert (shop.gap()["reason"], shop.gap()["detail"]) == ("failed", "lost: its process is gone")


def test_successful_rerun_closes_the_gap(shop: Shop) -> None:
    files = shop.deliver_day()
    shop.run("FAILED", files)
    shop.run(read=files)
    shop.assert_none()


def test_rejected_date_has_its_reason_and_no_catch_up(shop: Shop) -> None:
    run_id = shop.run("REJECTED", shop.deliver_day(), reasons=("12 % of orders break a rule",))
    gap = shop.gap()
    assert (gap["reason"], gap["detail"], gap["catch_up"]) == ("rejected", "12 % of orders break a rule", False)
    code, out = shop()
    assert code == 1
    assert f"Correct the data, or read `daybook show --env local {run_id}` and approve it." in out


def test_rejected_date_with_new_input_is_caught_up(shop: Shop) -> None:
    shop.run("REJECTED", shop.deliver_day(), reasons=("12 % of orders break a rule",))
    shop.deliver(f"orders/{DAY}/orders.csv", "mended rows")
    gap = shop.gap()
    assert (gap["reason"], gap["catch_up"]) == ("rejected", True)
    assert gap["detail"] == (f"12 % of orders break a rule; its input has changed since: orders/{DAY}/orders.csv has changed")


def test_rolled_back_date_has_its_reason_and_no_catch_up(shop: Shop) -> None:
    run_id = shop.run(read=shop.deliver_day())
    shop.archive.write_rollback(rollback_record(run_id))
    gap = shop.gap()
    assert (gap["reason"], gap["detail"], gap["catch_up"]) == ("rolled back", "by a steward: wrong prices", False)
    assert f"run each date: `daybook run --env local --date {DAY}`" in shop()[1]


def test_rolled_back_date_names_the_run_that_shows(shop: Shop) -> None:
    files = shop.deliver_day()
    first, second = shop.run(read=files), shop.run(read=files)
    shop.archive.write_rollback(rollback_record(second))
    assert shop.gap()["detail"] == f"by a steward: wrong prices; the tables of {first} are still published"


def test_rolled_back_date_with_new_input_is_caught_up(shop: Shop) -> None:
    files = shop.deliver_day()
    shop.archive.write_rollback(rollback_record(shop.run(read=files)))
    shop.deliver(files[0], "other rows")
    assert shop.gap()["catch_up"]


def test_run_after_a_rollback_closes_the_gap(shop: Shop) -> None:
    files = shop.deliver_day()
    shop.archive.write_rollback(rollback_record(shop.run(read=files)))
    shop.run(read=files)
    shop.assert_none()


def test_file_of_another_size_has_changed(shop: Shop) -> None:
    shop.run(read=shop.deliver_day(), after=HOUR)  # Whatever the modification times are.
    shop.deliver(f"orders/{DAY}/orders.csv", "more rows than before")
    assert (shop.gap()["reason"], shop.gap()["detail"]) == ("input changed", f"orders/{DAY}/orders.csv has changed")


def test_file_of_equal_size_and_other_content_has_changed(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    shop.deliver(f"orders/{DAY}/orders.csv", "same size")
    assert shop.gap()["reason"] == "input changed"


def test_older_file_of_equal_size_moved_in_has_changed(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    other = shop.landing.parent / "mended.csv"
    other.write_text("same size", encoding="utf-8")
    os.utime(other, (10**9, 10**9))
    other.replace(shop.landing / f"orders/{DAY}/orders.csv")
    assert (shop.landing / f"orders/{DAY}/orders.csv").stat().st_mtime == 10**9
    assert shop.gap()["reason"] == "input changed"


def test_redelivery_of_equal_content_is_not_a_change(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    for each in shop.deliver_day():
        os.utime(shop.landing / each)
    shop.assert_none()


def test_files_much_older_than_the_run_are_not_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.run(read=shop.deliver_day(), after=HOUR)
    opened = opened_files(monkeypatch, shop)
    shop.assert_none()
    assert opened == []


def test_files_slightly_older_than_the_run_are_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    files = shop.deliver_day()
    shop.run(read=files, after=timedelta(minutes=4))
    opened = opened_files(monkeypatch, shop)
    shop.assert_none()
    assert sorted(opened) == sorted(files)


def opened_files(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> list[str]:
    """Return a list that collects the landing files that are read from now on."""
    opened: list[str] = []
    read = Store.read

    def noted(store: Store, key: str) -> bytes:
        if store.uri == str(shop.landing):
            opened.append(key)
        return read(store, key)

    monkeypatch.setattr(Store, "read", noted)
    return opened


def test_new_file_is_a_change(shop: Shop) -> None:
    late = f"returns/{DAY}/returns.csv"
    shop.run(read=[file for file in shop.deliver_day() if file != late])
    gap = shop.gap()
    assert (gap["reason"], gap["detail"], gap["catch_up"]) == ("input landed after the run", f"{late} is new", True)


def test_removed_file_is_a_change_without_catch_up(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    (shop.landing / f"returns/{DAY}/returns.csv").unlink()
    gap = shop.gap()
    assert (gap["reason"], gap["detail"]) == ("input changed", f"returns/{DAY}/returns.csv is gone")
    assert (gap["change"]["withdrawn"], gap["catch_up"]) == (["returns"], False)
    assert "Deliver the files again; a run without them would fail or lose rows." in shop()[1]


def test_date_without_files_left_is_listed_as_cleared(shop: Shop) -> None:
    files = shop.deliver_day()
    shop.deliver_day(DAY + timedelta(days=1))
    shop.run(read=files)
    for file in files:
        (shop.landing / file).unlink()
    code, out = shop()
    assert code == 0
    assert out.startswith("Cleared: successful dates whose files are no longer in landing, ")
    assert "cannot be compared: 1, from 2025-11-28 to 2025-11-28.\nNo gaps: " in out
    assert json.loads(shop("--json")[1])["cleared"] == ["2025-11-28"]


@pytest.mark.parametrize(
    ("file", "old", "new", "part"),
    [
        ("params/sources/demo.yaml", "quantity: quantity", "quantity: 2 * quantity", "source"),
        ("params/contracts/gold/daily_sales.yaml", "required: true", "required: false", "contracts"),
        ("params/local.yaml", "currency: EUR", "currency: GBP", "settings"),
    ],
)
def test_date_computed_by_other_code_is_stale(shop: Shop, project: Any, file: str, old: str, new: str, part: str) -> None:
    shop.run(read=shop.deliver_day())
    project.replace(file, old, new)
    gap = shop.gap()
    assert (gap["reason"], gap["detail"], gap["catch_up"]) == ("stale", f"computed with other {part}", False)


def test_changed_input_precedes_changed_code(shop: Shop, project: Any) -> None:
    shop.run(read=shop.deliver_day())
    project.replace("params/local.yaml", "currency: EUR", "currency: GBP")
    shop.deliver(f"orders/{DAY}/orders.csv", "other rows")
    assert shop.gap()["reason"] == "input changed"


@pytest.mark.parametrize("noted", [None, {"source": None}])
def test_record_without_a_fingerprint_is_not_stale(shop: Shop, noted: Optional[dict[str, Any]]) -> None:
    known = (
        {}
        if noted is None
        else {part: digest for part, digest in compute_fingerprint(shop.settings).items() if part not in noted}
    )
    shop.run(read=shop.deliver_day(), fingerprint=known)
    shop.assert_none()


def test_new_logic_version_makes_a_date_stale(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.run(read=shop.deliver_day())
    monkeypatch.setattr(fingerprints, "LOGIC_VERSION", fingerprints.LOGIC_VERSION + 1)
    assert (shop.gap()["reason"], shop.gap()["detail"]) == ("stale", "computed with other logic")


@pytest.mark.parametrize(("part", "name"), [("engine", "engine"), ("lock", "lock")])
def test_other_packages_are_a_separate_reason(shop: Shop, part: str, name: str) -> None:
    shop.run(read=shop.deliver_day(), packages={**package_versions(), part: "another"})
    gap = shop.gap()
    assert (gap["reason"], gap["detail"], gap["catch_up"]) == ("other packages", f"computed with another {name}", False)


def test_stale_precedes_other_packages(shop: Shop, project: Any) -> None:
    shop.run(read=shop.deliver_day(), packages={**package_versions(), "engine": "another"})
    project.replace("params/local.yaml", "currency: EUR", "currency: GBP")
    assert shop.gap()["reason"] == "stale"


def test_fingerprint_of_an_older_form_is_an_earlier_release(shop: Shop) -> None:
    earlier = dict.fromkeys(("notebooks", "package", "contracts", "source", "settings", "lock"), "0" * 64)
    shop.run(read=shop.deliver_day(), fingerprint=earlier, packages=None)
    gap = shop.gap()
    assert (gap["reason"], gap["catch_up"]) == ("computed by an earlier release", False)
    code, out = shop()
    assert (code, "--stale" in out) == (1, True)


def test_active_run_is_listed_separately_and_is_not_a_gap(shop: Shop) -> None:
    shop.run("FAILED", shop.deliver_day())
    run_id = shop.run("RUNNING", state="running")
    code, out = shop()
    assert (code, out.splitlines()[0]) == (0, f"Under way: {run_id}")
    assert json.loads(shop("--json")[1])["under_way"] == [run_id]


# Runs that begin at a later stage


def test_run_without_ingest_has_the_inputs_of_an_earlier_run(shop: Shop) -> None:
    shop.run("REJECTED", shop.deliver_day())
    approved = shop.run()
    shop.assert_none()
    shop.deliver(f"orders/{DAY}/orders.csv", "other rows")
    assert (shop.gap()["reason"], shop.gap()["newest_run"]) == ("input changed", approved)


def test_input_is_that_of_the_newest_ended_ingest(shop: Shop) -> None:
    files = shop.deliver_day()
    shop.run(read=files)
    shop.deliver(f"orders/{DAY}/orders.csv", "other rows")
    shop.run("REJECTED", files)
    shop.run("FAILED", [], ingest="FAILED")  # read nothing, changed nothing
    shop.run()
    shop.assert_none()


def test_old_stages_of_an_earlier_run_make_a_date_stale(shop: Shop, project: Any) -> None:
    shop.run("REJECTED", shop.deliver_day())
    project.replace("params/local.yaml", "currency: EUR", "currency: GBP")
    shop.settings = load_settings("local")
    shop.run()  # approved under the new settings, of rows typed under the old ones
    assert (shop.gap()["reason"], shop.gap()["detail"]) == ("stale", "computed with other settings")


@pytest.mark.parametrize("how", ["withheld", "redacted"])
def test_input_that_is_not_recorded_is_not_compared(shop: Shop, how: str) -> None:
    files = shop.deliver_day()
    shop.run(read=files)
    shop.deliver(f"orders/{DAY}/orders.csv", "other rows")
    hidden = {"file": "orders/[redacted:name].csv", "bytes": 1, "sha256": "0"}
    attempt = {"stage": "ingest", "outcome": "SUCCEEDED", "started_at": "2025-11-29T02:00:00.000Z", "inputs": [hidden]}
    shop.run(stages=[{**attempt, "inputs": [], "withheld": "ValueError"} if how == "withheld" else attempt])
    shop.assert_none()


# Shops that are closed


SUNDAY = date(2010, 12, 5)


def test_skipped_date_is_not_a_gap_until_its_file_lands(make_shop: Any) -> None:
    shop = make_shop("online_retail")
    shop.deliver("2010-12-01.csv")
    shop.run("SKIPPED", [], day=SUNDAY)
    shop.assert_none(SUNDAY)
    shop.deliver("2010-12-05.csv")
    gap = shop.gap(SUNDAY)
    assert (gap["reason"], gap["detail"]) == ("input landed after the run", "2010-12-05.csv is new")


def test_closed_weekday_is_not_expected(make_shop: Any) -> None:
    shop = make_shop("online_retail")
    assert shop(day=date(2010, 12, 4)) == (0, "No gaps: no date is expected from 2010-12-04 to 2010-12-04.\n")


def test_skipped_date_is_stale_only_by_its_source(make_shop: Any, project: Any) -> None:
    shop = make_shop("online_retail")
    shop.deliver("2010-12-01.csv")
    shop.run("SKIPPED", [], day=SUNDAY)
    project.replace("params/online_retail.yaml", "currency: GBP", "currency: EUR")
    shop.assert_none(SUNDAY)
    project.replace("params/sources/online_retail.yaml", 'delimiter: ","', 'delimiter: ";"')
    assert (shop.gap(SUNDAY)["reason"], shop.gap(SUNDAY)["detail"]) == ("stale", "computed with other source")


# Snapshots

OLIST = {
    name: f"olist_{name}_dataset.csv"
    for name in ("orders", "order_items", "order_payments", "order_reviews", "customers", "products", "sellers")
}


def test_snapshot_is_read_once_for_all_dates(make_shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop("olist")
    files = [shop.deliver(name) for name in OLIST.values()]
    days = [date(2017, 11, 1) + timedelta(days=past) for past in range(30)]
    for day in days:
        shop.run(read=files, day=day)
    opened = opened_files(monkeypatch, shop)
    listed = []
    list_arrivals = Store.list_arrivals
    monkeypatch.setattr(Store, "list_arrivals", lambda store, prefix="": listed.append(prefix) or list_arrivals(store, prefix))
    assert find_gaps(shop.settings, now=NOW, since=days[0], until=days[-1]).gaps == []
    assert sorted(opened) == sorted(files)
    assert listed == [""]


def test_new_snapshot_is_caught_up_only_on_request(make_shop: Any) -> None:
    shop = make_shop("olist")
    files = [shop.deliver(name) for name in OLIST.values()]
    days = [date(2017, 11, 23), date(2017, 11, 24)]
    for day in days:
        shop.run(read=files, day=day)
    shop.deliver(OLIST["orders"], "a day more")
    gaps = find_gaps(shop.settings, now=NOW, since=days[0], until=days[1]).gaps
    assert [(gap.reason, gap.detail) for gap in gaps] == [
        ("input changed", "olist_orders_dataset.csv has changed (for every date)")
    ] * 2
    assert select_for_catch_up(gaps) == []
    assert select_for_catch_up(gaps, include_stale=True) == gaps


def test_date_without_snapshot_rows_is_compared(make_shop: Any) -> None:
    shop = make_shop("olist")
    day = date(2017, 11, 24)
    for name in OLIST.values():
        shop.deliver(name)
    shop.run("SKIPPED", [OLIST["orders"]], day=day)
    shop.deliver(OLIST["sellers"], "never read for this date")
    shop.assert_none(day)
    shop.deliver(OLIST["orders"], "with orders of that day")
    assert shop.gap(day)["reason"] == "input changed"


def snapshot_without_last(project: Any, shop: Shop, *dates: str) -> None:
    """Write a snapshot with orders of these dates to landing, and remove the last date of the calendar."""
    project.replace("params/sources/olist.yaml", "  first: 2016-09-15\n  last: 2018-10-03\n", "  first: 2018-10-01\n")
    columns = list(load_source("olist").entities["orders"].columns)
    rows = [",".join(text if name == "order_purchase_timestamp" else "x" for name in columns) for text in dates]
    shop.deliver(OLIST["orders"], "\n".join([",".join(columns), *rows]) + "\n")


def test_snapshot_without_a_last_date_ends_at_its_last_order(make_shop: Any, project: Any) -> None:
    shop = make_shop("olist")
    snapshot_without_last(project, shop, "2018-10-02 10:00:00", "2018-10-04 09:30:00", "soon", "9999-12-31 00:00:00", "")
    look = found(shop)
    assert (look.until, [gap.run_date.day for gap in look.gaps]) == (date(2018, 10, 4), [1, 2, 3, 4])


def test_missing_snapshot_leaves_the_calendar_open(make_shop: Any, project: Any) -> None:
    shop = make_shop("olist")
    snapshot_without_last(project, shop)
    (shop.landing / OLIST["orders"]).unlink()
    assert found(shop, now=datetime(2018, 10, 9, 12, tzinfo=timezone.utc)).until == date(2018, 10, 8)


def test_unreadable_snapshot_is_logged(make_shop: Any, project: Any, caplog: pytest.LogCaptureFixture) -> None:
    shop = make_shop("olist")
    snapshot_without_last(project, shop)
    shop.deliver(OLIST["orders"], "no,such,columns\n1,2,3\n")
    assert found(shop, now=datetime(2018, 10, 9, 12, tzinfo=timezone.utc)).until == date(2018, 10, 8)
    assert "The last date of the source olist is unknown: " in caplog.text


# Which dates are looked at


def found(shop: Shop, **given: Any) -> GapReport:
    return find_gaps(shop.settings, **{"now": NOW, **given})


def test_whole_calendar_is_checked_by_default(shop: Shop) -> None:
    look = found(shop)
    assert (look.since, look.until, look.expected, len(look.gaps)) == (date(2025, 10, 2), date(2025, 11, 30), 60, 60)


@pytest.mark.parametrize(
    ("now", "newest"), [("2025-11-24T01:59:59+00:00", date(2025, 11, 22)), ("2025-11-24T02:00:00+00:00", date(2025, 11, 23))]
)
def test_date_that_is_not_due_is_not_a_gap(shop: Shop, now: str, newest: date) -> None:
    for until in (None, date(2025, 11, 30)):
        look = found(shop, now=datetime.fromisoformat(now), until=until)
        assert (look.until, look.gaps[-1].run_date) == (newest, newest)


def test_without_a_first_date_gaps_start_at_the_first_run(shop: Shop, project: Any) -> None:
    project.replace("params/sources/demo.yaml", "  first: 2025-10-02\n", "")
    shop.run(read=shop.deliver_day())
    look = found(shop)
    assert (look.since, [gap.run_date.day for gap in look.gaps]) == (DAY, [29, 30])


def test_since_is_required_without_first_date_and_runs(shop: Shop, project: Any) -> None:
    project.replace("params/sources/demo.yaml", "  first: 2025-10-02\n", "")
    with pytest.raises(UsageError, match=r"no calendar\.first, so nothing says .*; give --since YYYY-MM-DD\.$"):
        found(shop)


def test_until_before_since_is_refused(shop: Shop) -> None:
    with pytest.raises(UsageError, match=r"^--until 2025-11-27 is before --since 2025-11-28; "):
        found(shop, since=DAY, until=DAY - timedelta(days=1))


def test_gaps_creates_no_files(shop: Shop, home: Path) -> None:
    assert shop()[0] == 1
    assert not home.exists()


def test_gaps_are_counted_by_reason_with_a_remedy(shop: Shop) -> None:
    for past, outcome in enumerate(("SUCCEEDED", "FAILED", "REJECTED")):
        day = DAY - timedelta(days=past)
        shop.run(outcome, shop.deliver_day(day), day=day, reasons=() if outcome == "SUCCEEDED" else ("[odd] reason",))
    code, out = shop("--since", "2025-11-25")
    assert code == 1
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["date", "2025-11-25", "2025-11-26", "2025-11-27", "3"]
    assert "[odd] reason" in lines[2]
    assert lines[-1] == (
        "3 gaps in 4 expected dates from 2025-11-25 to 2025-11-28: 1 never ran, 1 failed, 1 rejected. Run them, oldest first: "
        "`daybook catch-up --env local --since 2025-11-25 --until 2025-11-28`."
    )


def test_consecutive_gaps_are_one_range(shop: Shop) -> None:
    shop.run(read=shop.deliver_day())
    _, out = shop("--since", "2025-10-01", "--until", "2025-11-30")
    lines = [line.split("  ")[0] for line in out.splitlines()]
    assert lines[:3] == ["date", "2025-10-02 to 2025-11-27 (57 dates)", "2025-11-29 to 2025-11-30 (2 dates)"]
    assert len(lines) == 4


def test_range_continues_over_closed_dates(shop: Shop, project: Any) -> None:
    project.replace("params/sources/demo.yaml", "calendar: ", "calendar:\n  closed_weekdays: [Saturday]  ")
    (only,) = group_gaps(found(shop, since=date(2025, 11, 3)))
    assert str(only[0]) == "2025-11-03 to 2025-11-30 (24 dates)"


def test_gaps_that_differ_in_numbers_only_are_one_range(shop: Shop) -> None:
    days = [date(2025, 11, number) for number in range(10, 30)]
    for day in days:
        shop.run("FAILED", [], day=day, reasons=(f"/landing/{day}.csv, line {day.day}: a column is missing.",))
    shop.run("FAILED", [], day=date(2025, 11, 30), reasons=("the disk is full",))
    ranges = group_gaps(found(shop, since=days[0]))
    assert [(str(span), gaps[0].run_date) for span, gaps in ranges] == [
        ("2025-11-10 to 2025-11-29 (20 dates)", days[0]),
        ("2025-11-30", date(2025, 11, 30)),
    ]
    _, out = shop("--since", "2025-11-10", "--until", "2025-11-30")
    lines = out.splitlines()
    assert "2025-11-10.csv, line 10: a column is missing. …" in lines[1]
    assert "daily-2025-11-10-1 …" in lines[1]
    assert "the disk is full" in lines[2]
    assert "…" not in lines[2]


def test_json_lists_every_gap_and_the_ranges(shop: Shop) -> None:
    printed = json.loads(shop("--json", "--since", "2025-11-01", "--until", "2025-11-30")[1])
    assert len(printed["gaps"]) == 30
    assert printed["ranges"] == [
        {
            "first": "2025-11-01",
            "last": "2025-11-30",
            "dates": 30,
            "reason": "never ran",
            "detail": "no file of orders has landed",
        }
    ]


def test_suggested_catch_up_has_the_options_of_gaps(shop: Shop, tmp_path: Path) -> None:
    archive = tmp_path / "its archive"
    _, out = shop("--set", f"archive={archive}", "--set", "title=A shop")
    assert out.endswith(
        f"`daybook catch-up --env local --set 'archive={archive}' --set 'title=A shop' --since {DAY} --until {DAY}`.\n"
    )


# Which gaps a catch-up takes


def gap(number: int, reason: Any, **change: Any) -> Gap:
    return Gap(date(2025, 11, number), reason, "", change=InputChange(**change) if change else None)


FIXABLE = [
    gap(6, "never ran"),
    gap(5, "failed"),
    gap(4, "input changed", changed=("a.csv",)),
    gap(3, "input landed after the run", new=("a.csv",)),
    gap(2, "rejected", changed=("a.csv",)),
    gap(1, "rejected", changed=("snapshot.csv",), undated=True),
]
NOT_FIXABLE = [
    gap(11, "rejected"),
    gap(12, "rejected", gone=("a.csv",), withdrawn=("a",)),
    gap(13, "input changed", gone=("a.csv",), withdrawn=("a",)),
]
ONLY_ON_REQUEST = [
    gap(21, "stale"),
    gap(22, "input changed", changed=("snapshot.csv",), undated=True),
    gap(23, "computed by an earlier release"),
    gap(24, "other packages"),
]


def test_catch_up_selects_fixable_gaps_oldest_first() -> None:
    assert select_for_catch_up([*ONLY_ON_REQUEST, *FIXABLE, *NOT_FIXABLE]) == FIXABLE[::-1]


def test_catch_up_selects_stale_dates_on_request() -> None:
    chosen = select_for_catch_up([*ONLY_ON_REQUEST, *NOT_FIXABLE, *FIXABLE], include_stale=True)
    assert chosen == [*FIXABLE[::-1], *ONLY_ON_REQUEST]


@pytest.mark.parametrize("limit", [0, 1, 4, 99])
def test_catch_up_respects_its_limit(limit: int) -> None:
    assert select_for_catch_up(FIXABLE, limit) == FIXABLE[::-1][:limit]


def test_active_run_without_a_closing_record_is_not_a_gap(shop: Shop) -> None:
    shop.archive.store.create(f"run_date={DAY}/daily-{DAY}-1/started.json", serialize_record({"run_id": f"daily-{DAY}-1"}))
    with DateLocks(shop.archive.store.uri, [date.fromisoformat(str(DAY))]) as lock:
        lock.write_holder(f"daily-{DAY}-1")
        look = found(shop, since=DAY, until=DAY)
    assert (look.gaps, look.under_way) == ([], [f"daily-{DAY}-1"])


def test_lost_run_is_a_failed_gap(shop: Shop) -> None:
    shop.archive.store.create(f"run_date={DAY}/daily-{DAY}-1/started.json", serialize_record({"run_id": f"daily-{DAY}-1"}))
    (gap,) = found(shop, since=DAY, until=DAY).gaps
    assert gap.reason == "failed"
    assert gap.detail.startswith("lost: ")


# Runs over ranges


def run_range(shop: Shop, last: date, ends: Optional[dict[str, tuple[str, str]]] = None) -> str:
    """Add a closed range from the day to a last one, whose ingest read the delivered files of each date."""
    range_id = shop.archive.start_range(DAY, last, {})
    date_runs = shop.archive.started(range_id).dates
    attempts = build_attempts(range_id, list(date_runs), ends or {})
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for day, result in attempts[0].dates.items():
        read = shop.inputs([f"{name}/{day}/{name}.csv" for name in ENTITIES])
        result.inputs = [InputFile.model_validate(each) for each in read]
    for attempt in attempts:
        attempt.started_at = attempt.ended_at = now
    computed_by = {"fingerprint": compute_fingerprint(shop.settings), "packages": package_versions()}
    shop.archive.write_run(build_range_record(range_id, date_runs, attempts, started_at=now, **computed_by))
    return range_id


def test_dates_of_a_range_have_gaps_of_their_own(shop: Shop) -> None:
    days = [DAY + timedelta(days=number) for number in range(3)]
    for day in days:
        shop.deliver_day(day)
    run_range(shop, days[-1], {f"{days[1]}": ("validate", "REJECTED")})
    shop.assert_none(days[0])
    gap = shop.gap(days[1])
    assert (gap["reason"], gap["newest_run"]) == ("rejected", f"daily-{days[1]}-2")
    assert gap["detail"] == f"validate came to REJECTED for {days[1]}"
    shop.deliver(f"orders/{days[2]}/orders.csv", "other rows")
    assert (shop.gap(days[2])["reason"], shop.gap(days[2])["detail"]) == (
        "input changed",
        f"orders/{days[2]}/orders.csv has changed",
    )


def test_night_after_a_range_decides(shop: Shop) -> None:
    read = shop.deliver_day()
    shop.deliver_day(DAY + timedelta(days=1))
    run_range(shop, DAY + timedelta(days=1), {f"{DAY}": ("ingest", "FAILED")})
    assert shop.gap()["reason"] == "failed"
    night = f"daily-{DAY}-1"
    shop.archive.start_named_run(night, {})
    stages = [{"stage": "ingest", "outcome": "SUCCEEDED", "started_at": "2025-12-24T00:00:00Z", "inputs": shop.inputs(read)}]
    shop.archive.write_run(run_record(night, stages=stages, fingerprint=compute_fingerprint(shop.settings)))
    shop.assert_none()


def test_night_that_could_not_take_a_date_leaves_no_gap_once_the_range_ends(shop: Shop) -> None:
    last = DAY + timedelta(days=1)
    shop.deliver_day()
    shop.deliver_day(last)
    range_id = shop.archive.start_range(DAY, last, {})
    night = f"daily-{DAY}-1"
    shop.archive.start_named_run(night, {})
    shop.archive.write_run(run_record(night, "FAILED", reasons=[f"{DAY} is held by {range_id}"]))
    assert shop.gap()["reason"] == "failed"
    attempts = build_attempts(range_id, [f"{DAY}", f"{last}"], {})
    for attempt in attempts:
        attempt.ended_at = "2099-01-01T00:00:00.000Z"
    shop.archive.write_run(build_range_record(range_id, shop.archive.started(range_id).dates, attempts))
    assert [run.run_id for run in read_runs_of_date(shop.archive, DAY)] == [f"daily-{DAY}-2"]


def test_running_range_is_under_way_once(shop: Shop) -> None:
    last = DAY + timedelta(days=1)
    range_id = shop.archive.start_range(DAY, last, {})
    with DateLocks(shop.settings.archive, [DAY]) as first, DateLocks(shop.settings.archive, [last]) as second:
        first.write_holder(range_id)
        second.write_holder(range_id)
        found = find_gaps(shop.settings, now=NOW, since=DAY, until=last)
    assert (found.under_way, found.gaps) == ([range_id], [])
