"""Test whole runs with full or unwritable disks at every location that a run writes to.

Each location is a small disk. Most runs are of a day on which the shop was closed: two kernels, the same writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Callable

import pytest

from daybook.records.archive import Archive
from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project, read_gross_revenue, run_command, write_tiny_landing

pytestmark = pytest.mark.slow
DAY, NEXT, CLOSED = "2024-05-01", "2024-05-02", "2024-05-03"
PLACES = {"landing": "256k", "lake": "8m", "archive": "8m", "executions": "1m", "report": "2m"}

Daybook = Callable[..., "tuple[int, str, str]"]


@dataclass
class Machine:
    """A home whose folders are disks, by name, with one day published."""

    home: DaybookHome
    disks: dict[str, Any]

    @property
    def archive(self) -> Archive:
        return self.home.archive("tiny")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, module_disks: Any) -> Iterator[Machine]:
    """Return a machine with read-only landing, which no test writes to."""
    place = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        project = copy_project(place / "project")
        add_tiny_shop(project)
        home = DaybookHome(place / "home")
        patch.setenv("DAYBOOK_PROJECT", str(project))
        patch.setenv("DAYBOOK_HOME", str(home.path))
        disks = {name: module_disks.mount(home.path / name, size) for name, size in PLACES.items()}
        write_tiny_landing(home.path, DAY, ["10.00", "5.50"])
        write_tiny_landing(home.path, NEXT, ["1.00"])
        disks["landing"].read_only()
        home.run("tiny", DAY)
        yield Machine(home, disks)


@pytest.fixture
def daybook(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Daybook:
    """Return a function that runs a command of the deployment; it returns exit code, standard output and standard error."""

    def calls(command: str, *arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, command, "--env", "tiny", *arguments)

    return calls


def last_run(machine: Machine, day: str) -> str:
    return machine.archive.run_ids(date.fromisoformat(day))[-1]


def files_of(machine: Machine, run_id: str) -> set[str]:
    archive = machine.archive
    return {key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(run_id))}


def test_run_succeeds_with_read_only_landing(machine: Machine) -> None:
    assert machine.archive.run(f"daily-{DAY}-1").outcome == "SUCCEEDED"
    assert read_gross_revenue(machine.home, "tiny", DAY) == Decimal("15.5")
    assert sorted(path.name for path in (machine.home.path / "landing").iterdir()) == [f"{DAY}.csv", f"{NEXT}.csv"]


@pytest.mark.parametrize("place", ["archive", "lake"])
def test_unwritable_location_fails_before_the_run_starts(machine: Machine, daybook: Daybook, place: str) -> None:
    before, jobs = machine.archive.run_ids(), sorted((machine.home.path / "logs").iterdir())
    machine.disks[place].read_only()
    try:
        code, out, err = daybook("run", "--date", NEXT)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert str(machine.disks[place].path) in err
        assert err.endswith("could not be written: it is read-only; make it writable, then run it again.\n")
        assert daybook("runs")[0] == 0
    finally:
        machine.disks[place].read_only(False)
    assert (machine.archive.run_ids(), sorted((machine.home.path / "logs").iterdir())) == (before, jobs)


def test_full_archive_fails_before_the_run_starts(machine: Machine, daybook: Daybook) -> None:
    before = machine.archive.run_ids()
    machine.disks["archive"].fill()
    try:
        code, _, err = daybook("run", "--date", CLOSED)
        assert code == 1
        assert err.endswith("started.json could not be written: its disk is full; free some space, then run it again.\n")
        assert daybook("runs")[0] == 0
    finally:
        machine.disks["archive"].free()
    assert machine.archive.run_ids() == before


def test_archive_that_fills_up_has_no_partial_record(machine: Machine, daybook: Daybook) -> None:
    machine.disks["archive"].fill(leave=4 * 4096)
    try:
        code, _, err = daybook("run", "--date", CLOSED)
        assert code == 1
        assert err.count("\n") == 1
        assert err.endswith("could not be written: its disk is full; free some space, then run it again.\n")
    finally:
        machine.disks["archive"].free()
    full = last_run(machine, CLOSED)
    assert "1_ingest.attempt-1.json" in files_of(machine, full)
    assert not {f"1_ingest.attempt-1.{kind}" for kind in ("ipynb", "html")} <= files_of(machine, full)
    code, out, _ = daybook("show", full)
    assert code == 0
    assert "ingest (attempt 1): its notebook and page never came into the archive" in out

    code, out, err = daybook("run", "--date", CLOSED)
    assert (code, err) == (0, "")
    assert "SKIPPED" in out
    assert machine.archive.run(last_run(machine, CLOSED)).outcome == "SKIPPED"


def test_run_with_full_journal_can_be_resumed(machine: Machine, daybook: Daybook) -> None:
    machine.disks["executions"].fill(leave=4096)
    try:
        code, _, err = daybook("run", "--date", CLOSED)
        assert code == 1
        assert err.endswith(".jsonl could not be written: its disk is full; free some space, then resume the execution.\n")
        assert err.count("\n") == 1
    finally:
        machine.disks["executions"].free()
    cut_off = last_run(machine, CLOSED)
    assert machine.archive.count_closing_records(cut_off) == 0

    code, out, err = daybook("resume", cut_off)
    assert (code, err) == (0, "")
    assert "SKIPPED" in out
    assert machine.archive.run(cut_off).outcome == "SKIPPED"


def test_full_report_disk_keeps_the_last_report(machine: Machine, daybook: Daybook) -> None:
    assert daybook("report")[0] == 0
    folder = machine.home.path / "report"
    pages = {path: path.read_bytes() for path in folder.rglob("*.html")}
    machine.disks["report"].fill()
    try:
        code, _, err = daybook("report")
        assert code == 1
        assert err.endswith("could not be written: its disk is full; free some space, then run it again.\n")
        assert err.count("\n") == 1
    finally:
        machine.disks["report"].free()
    assert pages.keys() == set(folder.rglob("*.html"))
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert daybook("report")[0] == 0


def test_full_lake_keeps_its_tables_and_recovers(machine: Machine, daybook: Daybook) -> None:
    before = machine.home.content("tiny")
    machine.disks["lake"].fill()
    try:
        code, out, err = daybook("run", "--date", NEXT)
        assert (code, err) == (1, "")
        assert "LakeError: bronze.sales at " in out
        assert "lake/bronze/sales could not be written: its disk is full; free some space, then run it again." in out
        assert machine.home.content("tiny") == before
    finally:
        machine.disks["lake"].free()
    record = machine.archive.run(last_run(machine, NEXT))
    assert [(each.stage, each.outcome) for each in record.stages] == [("ingest", "FAILED")] * 4 + [("notify", "SUCCEEDED")]
    assert machine.home.content("tiny") == before

    assert daybook("run", "--date", NEXT)[0] == 0
    assert read_gross_revenue(machine.home, "tiny", NEXT) == Decimal("1")
    assert read_gross_revenue(machine.home, "tiny", DAY) == Decimal("15.5")
