"""Test commands on an emulated deployment with the real state machines, job script and notebooks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awswrangler.s3
import pyarrow as pa
import pytest

from asl_local import TaskError
from daybook.engines import DuckDBEngine
from daybook.execution.local.jobs import GlueJobs
from daybook.execution.local.runs import run_dates
from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.leases import lease_dates, release_dates
from daybook.records.names import list_range
from daybook.settings import load_settings, parse_run_date
from daybook.storage import delta_options
from demo_shop import generate
from tests.emulator.emulator import REGION, Account
from tests.emulator.machines import GLUE, arn, deploy_machines
from tests.runs.content import hash_tables
from tests.runs.shop import NoJitter, copy_project, run_command

pytestmark = pytest.mark.slow

DAY, NEXT, LAST = "2025-11-28", "2025-11-29", "2025-11-30"
KEY = bytes(range(32))


@dataclass
class Cloud:
    """Two deployments of the demo shop: ``cloud`` in the emulator, and ``here`` with the same files in folders."""

    account: Account
    home: Path
    failing: set[str]
    done: list[str]
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def call(self, *arguments: str) -> tuple[int, str, str]:
        return run_command(self.monkeypatch, self.capsys, *arguments)

    def job(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Run the job script in a process, or fail if the test asks for it."""
        given = asked["Arguments"]
        self.done.append(given.get("--stage") or given["--errand"])
        if self.done[-1] in self.failing:
            raise TaskError("States.TaskFailed", json.dumps({"JobRunState": "FAILED", "ErrorMessage": "its machine is gone"}))
        return GlueJobs(self.home / "logs")(GLUE, asked, timeout_seconds=300, heartbeat=lambda: None)

    @property
    def archive(self) -> Archive:
        return Archive(load_settings("cloud").archive)

    def content(self, env: str) -> dict[str, str]:
        settings = load_settings(env)
        return hash_tables(DuckDBEngine(Lake(settings.lake), settings.timezone))

    def run_here(self, first: str, last: str) -> None:
        settings = load_settings("here")
        run_id = Archive(settings.archive).start_range(parse_run_date(first), parse_run_date(last), {"env": "here"})
        run_dates(settings, run_id)


@pytest.fixture
def cloud(aws_account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cloud:
    home = tmp_path / "home"
    monkeypatch.setenv("DAYBOOK_HOME", str(home))
    monkeypatch.setattr("daybook.execution.local.interpreter.Random", NoJitter)
    project = copy_project(tmp_path / "project")
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    bucket = aws_account.new_bucket()
    common = "title: Demo shop\nsource: demo\ntimezone: Europe/Berlin\ncurrency: EUR\n"
    (project / "params" / "cloud.yaml").write_text(
        f"{common}runs_on: aws\nlanding: s3://{bucket}/landing\nlake: s3://{bucket}/lake\narchive: s3://{bucket}/archive\n"
        f'report: "{{home}}/report"\npii_key: secretsmanager://key\ndeployment: {{region: {REGION}}}\n'
    )
    places = "".join(f'{name}: "{{home}}/{name}"\n' for name in ("landing", "lake", "archive", "report"))
    (project / "params" / "here.yaml").write_text(f'{common}{places}pii_key: "{{home}}/key"\n')
    generate(home / "landing", seed=7, days=4, orders_per_day=30)
    for path in (home / "landing").rglob("*"):
        if path.is_file():
            aws_account.client("s3").upload_file(str(path), bucket, f"landing/{path.relative_to(home / 'landing')}")
    aws_account.client("secretsmanager").create_secret(Name="key", SecretString=KEY.hex())
    (home / "key").write_bytes(KEY)
    (home / "key").chmod(0o600)
    monkeypatch.setattr("daybook.execution.aws.follow.MIN_POLL_SECONDS", 0.2)
    return Cloud(aws_account, home, set(), [], monkeypatch, capsys)


def test_aws_and_laptop_give_equal_tables(cloud: Cloud) -> None:
    with deploy_machines(cloud.account, "cloud", cloud.job):
        code, out, err = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert (code, err) == (0, ""), out
        assert f"SUCCEEDED daily-{DAY}-1" in out
        shown = [line.split()[1] for line in out.splitlines() if line.startswith("  ✓")]
        assert shown == ["ingest", "validate", "transform", "aggregate", "quality", "notify"]
        assert "rows in" in out

        code, out, err = cloud.call("catch-up", "--env", "cloud", "--since", DAY, "--until", LAST, "--yes")
        assert (code, err) == (0, "")
        assert f"2 gaps from {DAY} to {LAST}; 2 to run:" in out
        # The emulator's histories have no events of Map iterations; tests/execution/aws tests their display.
        for day in (NEXT, LAST):
            assert f"{day}  daily-{day}-2  SUCCEEDED" in out
        assert f"SUCCEEDED catch-up-{NEXT}-{LAST}-1" in out
        assert cloud.archive.range_ids() == [f"range-{NEXT}-{LAST}-1"]

        code, out, err = cloud.call("rollback", f"range-{NEXT}-{LAST}-1", "--env", "cloud", "--reason", "a trial", "--yes")
        assert (code, err) == (0, "")
        code, out, err = cloud.call("backfill", DAY, LAST, "--env", "cloud", "--yes", "--parallel", "2")
        assert (code, err) == (0, "")
        for day in (NEXT, LAST):
            assert f"{day}  daily-{day}-3  SUCCEEDED" in out
        assert "SUCCEEDED backfill-" in out
        assert cloud.archive.range_ids() == [f"range-{NEXT}-{LAST}-1", f"range-{NEXT}-{LAST}-2"]

    cloud.run_here(DAY, LAST)
    here = cloud.content("here")
    assert len(here) == 13
    assert cloud.content("cloud") == here

    history = cloud.archive.history(f"daily-{DAY}-1")
    assert history[-1]["type"] == "ExecutionSucceeded"
    assert cloud.call("runs", "--env", "cloud")[1].count("SUCCEEDED") == 2
    assert "ingest" in cloud.call("show", f"daily-{DAY}-1", "--env", "cloud")[1]
    code, out, _ = cloud.call("status", "--env", "cloud", "--at", "2025-12-01T09:00")
    # The calendar starts before the first run, so these dates are missing but not late.
    assert (code, out.count(f" {LAST} "), "late" in re.findall(r"\w+", out)) == (1, 7, False)
    code, out, _ = cloud.call("gaps", "--env", "cloud", "--since", "2025-11-27", "--until", LAST, "--json")
    assert (code, [gap["run_date"] for gap in json.loads(out)["gaps"]]) == (1, ["2025-11-27"])
    code, out, _ = cloud.call("sql", "SELECT count(*) AS days FROM gold.daily_sales", "--env", "cloud", "--json")
    assert code == 0
    assert json.loads(out)[0]["days"] >= 2
    assert cloud.call("report", "--env", "cloud")[0] == 0
    assert (cloud.home / "report" / "index.html").is_file()
    assert cloud.call("vacuum", "--env", "cloud", "--dry-run")[0] == 0
    assert "SUCCEEDED" in cloud.call("backfills", "--env", "cloud")[1]

    # awswrangler, which uses the table's log only, reads the same rows as Daybook.
    settings = load_settings("cloud")
    place = f"{settings.lake}/gold/daily_sales"
    read = awswrangler.s3.read_deltalake(place, dtype_backend="pyarrow", s3_additional_kwargs=delta_options(place))
    engine = DuckDBEngine(Lake(settings.lake), settings.timezone)
    own = engine.arrow("SELECT * FROM gold.daily_sales")
    others = pa.Table.from_pandas(read, schema=own.schema, preserve_index=False)
    assert others.num_rows == 3
    assert others.sort_by("order_date") == own.sort_by("order_date")


def test_failed_run_is_resumed_from_failed_stage(cloud: Cloud) -> None:
    with deploy_machines(cloud.account, "cloud", cloud.job):
        cloud.failing = {"transform", "notify"}
        code, out, _ = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert code == 1
        assert "transform: attempt 1 failed, retrying" in out
        assert f"FAILED daily-{DAY}-1" in out
        # No job could close the run, so the follower closed it.
        assert cloud.archive.run(f"daily-{DAY}-1").outcome == "FAILED"

        cloud.failing, cloud.done[:] = set(), []
        code, out, err = cloud.call("resume", f"daily-{DAY}-1", "--env", "cloud")
        assert (code, err) == (0, "")
        assert cloud.done == ["transform", "aggregate", "quality", "notify"]

        code, _, err = cloud.call("resume", f"daily-{DAY}-1", "--env", "cloud")
        assert (code, err.count("\n")) == (2, 1)
        assert "has ended as SUCCEEDED" in err


def test_missing_file_is_not_retried_and_resumable(cloud: Cloud) -> None:
    bucket, _, prefix = load_settings("cloud").landing[len("s3://") :].partition("/")
    given = {"Bucket": bucket, "Key": f"{prefix}/orders/{DAY}/orders.csv"}
    s3 = cloud.account.client("s3")
    content = s3.get_object(**given)["Body"].read()
    s3.delete_object(**given)
    with deploy_machines(cloud.account, "cloud", cloud.job):
        code, out, _ = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert (code, cloud.done) == (1, ["ingest", "notify"])
        assert f"FAILED daily-{DAY}-1" in out
        why = "not retried: the same input would fail again"
        assert f"ingest failed in cell 4 (attempt 1, {why}): MissingFileError: s3://{given['Bucket']}/{given['Key']}" in out
        record = cloud.archive.run(f"daily-{DAY}-1")
        assert [(each.outcome, each.permanent) for each in record.stages] == [("FAILED", True), ("SUCCEEDED", False)]
        assert "MissingFileError" in record.stages[-1].details.message.body

        s3.put_object(**given, Body=content)
        cloud.done.clear()
        code, _, err = cloud.call("resume", f"daily-{DAY}-1", "--env", "cloud")
        assert (code, err) == (0, "")
        assert cloud.done == ["ingest", "validate", "transform", "aggregate", "quality", "notify"]


def test_date_cannot_run_twice_at_the_same_time(cloud: Cloud) -> None:
    states = cloud.account.client("stepfunctions")
    with deploy_machines(cloud.account, "cloud", cloud.job, workers=0):  # jobs never run, so the execution keeps running
        code, out, _ = cloud.call("run", "--env", "cloud", "--date", DAY, "--no-follow")
        assert code == 0
        assert f"daily-{DAY}-1 continues on AWS" in out

        code, _, err = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert (code, err.count("\n")) == (1, 1)
        assert f"{DAY} is being run by daily-{DAY}-1 (started by " in err
        assert "RUNNING" in cloud.call("runs", "--env", "cloud")[1]

        # After a stop on AWS, the next start closes the run and gets the next name.
        execution = f"{arn(cloud.account, 'cloud', 'daily').replace('stateMachine', 'execution')}:daily-{DAY}-1"
        states.stop_execution(executionArn=execution)
        shown = json.loads(cloud.call("show", f"daily-{DAY}-1", "--env", "cloud", "--json")[1])
        assert (shown["state"], shown["outcome"]) == ("lost", "FAILED")
        assert f"daily-{DAY}-2 continues" in cloud.call("run", "--env", "cloud", "--date", DAY, "--no-follow")[1]
        assert cloud.archive.run(f"daily-{DAY}-1").reasons == ["stopped before it ended: its execution was stopped on AWS"]


def test_night_and_overlapping_range_never_work_at_once(cloud: Cloud) -> None:
    lake, range_id = load_settings("cloud").lake, f"range-{DAY}-{NEXT}-1"
    lease_dates(lake, range_id, list_range(range_id))
    with deploy_machines(cloud.account, "cloud", cloud.job):
        code, out, _ = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert (code, cloud.done) == (1, ["ingest"] * 4 + ["notify"])
        assert f"{DAY} is held by {range_id} until " in out
        record = cloud.archive.run(f"daily-{DAY}-1")
        # The refused run has no attempt of its own, and leaves the lease to the range.
        assert (record.outcome, [each.stage for each in record.stages]) == ("FAILED", ["notify"])
        assert Lake(lake).tables() == Lake(f"{lake}-that-is-empty").tables()

        release_dates(lake, range_id, list_range(range_id))
        code, out, err = cloud.call("resume", f"daily-{DAY}-1", "--env", "cloud")
        assert (code, err) == (0, ""), out
    # The run released its date when it was closed.
    held = lease_dates(lake, range_id, list_range(range_id))
    assert held is not None
    assert list(held.tokens.values()) == [3, 2]


def test_interrupt_stops_following_only(cloud: Cloud) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    cloud.monkeypatch.setattr("asl_local.clock.SystemClock.sleep", lambda self, seconds: interrupted(seconds))
    with deploy_machines(cloud.account, "cloud", cloud.job, workers=0):
        code, out, _ = cloud.call("run", "--env", "cloud", "--date", DAY)
        assert code == 1
        assert f"daily-{DAY}-1 continues on AWS; follow it with `daybook show --env cloud daily-{DAY}-1`" in out
        assert cloud.account.client("stepfunctions").list_executions(
            stateMachineArn=arn(cloud.account, "cloud", "daily"), statusFilter="RUNNING"
        )["executions"]


def test_missing_deployment_is_one_sentence(cloud: Cloud) -> None:
    code, _, err = cloud.call("run", "--env", "cloud", "--date", DAY)
    assert (code, err.count("\n")) == (1, 1)
    assert "There is no state machine daybook-cloud-daily in account" in err


def test_stopped_run_is_closed_before_backfill_plan(cloud: Cloud) -> None:
    with deploy_machines(cloud.account, "cloud", cloud.job, workers=0):
        assert cloud.call("run", "--env", "cloud", "--date", DAY, "--no-follow")[0] == 0
        code, out, _ = cloud.call("backfill", DAY, DAY, "--env", "cloud", "--yes")
        assert (code, f"under way: daily-{DAY}-1" in out) == (0, True)

        execution = f"{arn(cloud.account, 'cloud', 'daily').replace('stateMachine', 'execution')}:daily-{DAY}-1"
        cloud.account.client("stepfunctions").stop_execution(executionArn=execution)
        code, out, _ = cloud.call("backfill", DAY, DAY, "--env", "cloud", "--yes", "--no-follow")
        assert (code, "1 to run" in out) == (0, True)
        assert cloud.archive.run(f"daily-{DAY}-1").outcome == "FAILED"
        assert f"backfill-{DAY}-{DAY}-1 continues on AWS" in out
        assert "RUNNING" in cloud.call("backfills", "--env", "cloud")[1]
