"""Test a backfill whose processes are killed at random times: it loses nothing and publishes no partial day.

Its ten dates are cut into one range, into ranges of three dates, or into single dates.

Each time random processes are killed: all at once, as in a power failure; the runner's process group; the fork server; a job;
a kernel. ``pytest --chaos-kills 500 tests/runs/test_chaos.py`` runs longer; ``--chaos-seed`` selects other times.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import psutil
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from daybook.contracts import load_tables
from daybook.lake.delta import open_dataset
from daybook.lake.tables import Lake
from daybook.records.models import RunRecord
from daybook.settings import load_settings
from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project, write_tiny_landing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
DAYS = [f"2024-03-{day:02d}" for day in range(1, 11)]
CLOSED = "2024-03-03"
RUNNER = """
import sys
import daybook.execution.local.interpreter
from random import Random
class NoWait(Random):
    def random(self):
        return 0.0
daybook.execution.local.interpreter.Random = NoWait
from daybook.cli import main
sys.argv = ["daybook", "backfill", *sys.argv[1:]]
main()
"""
GOLD_BY_DATE = [name for name, contract in load_tables("gold").items() if contract.date_column]
_COUNTED = r"\('(?:new|returning)_customers', \d+\)"
CHUNKS = ("month", "3", "day")
LIFE_SECONDS = 14.0
"""Maximum time until a backfill is killed. Its ten dates take about as long in one range, and longer in several."""


@dataclass
class Shop:
    """A home with ten days in landing, and backfills in it."""

    home: DaybookHome
    seen: dict[str, set[str]] = field(default_factory=dict)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a backfill of the ten days in a new process group."""
        command = [sys.executable, "-c", RUNNER, DAYS[0], DAYS[-1], "--env", "tiny", "--parallel", "2", "--yes", *options]
        return subprocess.Popen(
            command,
            env={**os.environ, "DAYBOOK_HOME": str(self.home.path)},
            stdout=(self.home.path / "printed.txt").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def complete(self) -> int:
        """Run the backfill to its end without kills; return the exit code."""
        return self.start().wait(timeout=600)

    def gold(self) -> dict[str, dict[str, list[str]]]:
        """Return every row of the gold tables by table and date from the files, each table at one version."""
        lake = Lake(load_settings("tiny").lake)
        found: dict[str, dict[str, list[str]]] = {}
        for name in GOLD_BY_DATE:
            found[name] = {}
            try:
                table = open_dataset(DeltaTable(lake.uri(name))).to_table()
            except TableNotFoundError:
                continue
            for row in table.to_pylist():
                found[name].setdefault(str(row["order_date"]), []).append(repr(sorted(row.items())))
        return {name: {day: sorted(rows) for day, rows in days.items()} for name, days in found.items()}


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process and its descendants: the fork server, jobs, kernels."""
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: list[psutil.Process]) -> None:
    # Stop all first, so that none sees the end of another.
    for each in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            try:
                process.send_signal(each)
            except psutil.NoSuchProcess:
                continue


def kill_some(process: subprocess.Popen[bytes], chance: random.Random) -> Optional[str]:
    """Kill the fork server, a job or a kernel, if there is one; return which."""
    running = family(process)
    hosts = [each for each in running if each.pid != process.pid and parent_of(each) == process.pid]
    jobs = [each for each in running if parent_of(each) in {host.pid for host in hosts}]
    kernels = [each for each in running if parent_of(each) in {job.pid for job in jobs}]
    kinds = {name: found for name, found in (("host", hosts), ("job", jobs), ("kernel", kernels)) if found}
    if not jobs:
        return None
    name = chance.choices(list(kinds), [{"host": 1, "job": 2, "kernel": 3}[kind] for kind in kinds])[0]
    kill([chance.choice(kinds[name])])
    return name


def parent_of(process: psutil.Process) -> Optional[int]:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def gone(shop: Shop, processes: list[psutil.Process]) -> None:
    """Wait until no process of a backfill is left, including forks, which lock a date."""
    psutil.wait_procs(processes, timeout=10)
    assert not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    archive = shop.home.archive("tiny")
    until = time.monotonic() + 10
    while any(archive.find_holder(run_id) for run_id in archive.run_ids()):
        assert time.monotonic() < until, "a process that outlived its backfill locks a date"


def check(shop: Shop, reference: dict[str, dict[str, list[str]]], *, ended: bool) -> None:
    """Check that tables are readable, that each date is complete or absent, and that the record is true.

    New customers of a date depend on earlier dates: while a killed one is missing, its customers count as new on a later date.
    The commit that publishes the missing date corrects this.
    """
    # Read the record first: dates that it calls good must be visible afterwards.
    archive = shop.home.archive("tiny")
    records = [archive.run(run_id) for run_id in [*archive.run_ids(), *archive.range_ids()]]
    visible = shop.gold()
    for table, days in visible.items():
        for day, rows in days.items():
            expected = reference[table][day]
            if not all(each in days for each in reference[table] if each < day):
                rows, expected = who_is_new_apart(rows), who_is_new_apart(expected)
            assert rows == expected, f"{table} shows {day} otherwise than an undisturbed run, beside {sorted(days)}"
    good = {str(record.run_date) for record in records if record.outcome == "SUCCEEDED" and not record.is_range}
    for table in GOLD_BY_DATE:
        # A published date stays published after failed later runs.
        assert good & set(reference[table]) <= set(visible[table])
        assert shop.seen.get(table, set()) <= set(visible[table])
        shop.seen[table] = set(visible[table])
    for record in records:
        assert record.state in (("closed", "lost") if ended else ("closed", "lost", "running")), record.run_id
        if record.state == "closed" and record.outcome == "SUCCEEDED":
            assert [each.stage for each in record.stages if each.outcome == "SUCCEEDED"][-1] == "notify"
        _check_files(archive, record)
    if ended:
        # Read every table like a user.
        engine = shop.home.engine("tiny")
        for name in engine.lake.tables():
            engine.rows(f"SELECT count(*) FROM {name}")


def who_is_new_apart(rows: list[str]) -> list[str]:
    """Return rows with the sum of new and returning customers instead of both numbers."""
    masked_rows = []
    for row in rows:
        counts = re.findall(r"\('(?:new|returning)_customers', (\d+)\)", row)
        masked_rows.append(f"{re.sub(_COUNTED, '', row)} {sum(map(int, counts))} customers")
    return masked_rows


def _check_files(archive: Any, record: RunRecord) -> None:
    """Check that an attempt's notebook and page have the recorded digest or do not exist; none is partial."""
    for attempt in record.stages:
        for kind in ("notebook", "html"):
            recorded = getattr(attempt, kind)
            key = recorded and f"{archive.folder(archive.files_run_id(record.run_id))}/{recorded.file}"
            if key and archive.store.exists(key):
                assert hashlib.sha256(archive.store.read(key)).hexdigest() == recorded.sha256, key


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shop, Shop]]:
    """Return two homes with the same landing and key: one undisturbed, one for kills."""
    project = copy_project(tmp_path / "project")
    add_tiny_shop(project)
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    shops = []
    for name in ("calm", "chaos"):
        home = DaybookHome(tmp_path / name)
        home.path.mkdir()
        (home.path / "pii.key").write_bytes(b"")
        (home.path / "pii.key").unlink()
        for number, day in enumerate(DAYS):
            if day != CLOSED:
                write_tiny_landing(home.path, day, [f"{number + 1}.50", "20.00", f"{number}.25"])
        shops.append(Shop(home))
    yield shops[0], shops[1]


def test_randomly_killed_backfill_has_the_same_result(
    tiny: tuple[Shop, Shop], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    expected, seed = request.config.getoption("--chaos-kills"), request.config.getoption("--chaos-seed")
    chance = random.Random(seed)  # noqa: S311 (instants, not secrets)
    calm, shop = tiny
    monkeypatch.setenv("DAYBOOK_HOME", str(calm.home.path))
    assert calm.complete() == 0
    reference, whole = calm.gold(), calm.home.content("tiny")
    assert set(reference["gold.daily_sales"]) == set(DAYS) - {CLOSED}

    (shop.home.path / "pii.key").write_bytes((calm.home.path / "pii.key").read_bytes())
    (shop.home.path / "pii.key").chmod(0o600)
    monkeypatch.setenv("DAYBOOK_HOME", str(shop.home.path))
    kills: list[str] = []
    options: tuple[str, ...] = ()
    while len(kills) < expected:
        process = shop.start(*options, "--chunk", chance.choice(CHUNKS))
        until = time.monotonic() + chance.uniform(0, LIFE_SECONDS)
        while process.poll() is None and time.monotonic() < until:
            try:
                process.wait(timeout=min(chance.uniform(0.2, 2.0), max(until - time.monotonic(), 0.01)))
            except subprocess.TimeoutExpired:
                killed = kill_some(process, chance)
                if killed:
                    kills.append(killed)
                    check(shop, reference, ended=False)
        if process.poll() is not None:
            # All dates are good or failed too often: run the failed ones, then the good ones again, too.
            options = ("--force",)
            continue
        running = family(process)
        kind = chance.choice(["everything", "group"])
        if kind == "everything":
            kill(running)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        gone(shop, running)
        kills.append(kind)
        check(shop, reference, ended=True)

    assert shop.complete() == 0, f"after {kills} (seed {seed}); {shop.home.path / 'printed.txt'} has the output"
    check(shop, reference, ended=True)
    archive = shop.home.archive("tiny")
    newest = {day: archive.run(archive.run_ids(load_date(day))[-1]).outcome for day in DAYS}
    assert newest == {day: "SKIPPED" if day == CLOSED else "SUCCEEDED" for day in DAYS}
    assert shop.home.content("tiny") == whole
    assert len(set(kills)) == 5, f"too few kinds of kills: {kills}"


def load_date(day: str) -> Any:
    from daybook.settings import parse_run_date

    return parse_run_date(day)
