"""Define cases as plain JSON for both interpreters: the input of a machine and the scripted answers of its services.

A script lists the answers in order for each called object (a job by name, an object by key, an execution by name). The last
answer is repeated. Answers are:

    {"state": "SUCCEEDED"}    a job run that ended so: SUCCEEDED and STOPPED well, FAILED, TIMEOUT and ERROR not
    {"hangs": true}           a job run that is RUNNING for ever
    {"throws": NAME}          the service's own error, which it answers instead of doing it
    {"body": TEXT}            an object
    {"output": JSON}          an execution that succeeded
    {"error": NAME}           an execution that failed
"""

from __future__ import annotations

import json
from typing import Any

Case = dict[str, Any]

RUN = "daily-2025-11-30-1"
STAGES = ("ingest", "validate", "transform", "aggregate", "quality")
GOOD = {"state": "SUCCEEDED"}
FAILED = {"state": "FAILED", "message": 'LandingError: "orders.csv", line 3: 1 column, 2 wanted'}
THROTTLED = {"throws": "ConcurrentRunsExceededException"}
ARCHIVE = {"bucket": "archive", "prefix": "prod/"}


def outcome(stage: str, name: str, run: str = RUN) -> dict[str, list[Any]]:
    """Return the outcome object of a stage."""
    body = json.dumps({"stage": stage, "outcome": name, "reasons": ["5 % of orders' rows"], "rows": {"in": 3}})
    return {f"prod/outcomes/{run}/{stage}.json": [{"body": body}]}


def daily(name: str, script: dict[str, list[Any]], *, outcomes: dict[str, str] | None = None, **given: Any) -> Case:
    """Return a case of the daily machine. Stages succeed unless the script or the outcomes differ."""
    whole: dict[str, list[Any]] = {f"daybook-prod-{stage}": [GOOD] for stage in (*STAGES, "notify")}
    for stage in STAGES:
        whole.update(outcome(stage, (outcomes or {}).get(stage, "SUCCEEDED"), given.get("run_id", RUN)))
    started = {"env": "prod", "run_date": "2025-11-30", "overrides": {"landing": "s3://lands/x"}, "archive": ARCHIVE, **given}
    return {"name": f"daily: {name}", "machine": "daily", "execution": RUN, "input": started, "script": {**whole, **script}}


def of_range(name: str, end: dict[str, Any], script: dict[str, list[Any]] | None = None, **given: Any) -> Case:
    """Return a case of the daily machine for two dates, which end as ``end`` tells."""
    outcome = {f"prod/outcomes/{RUN}/range.json": [{"body": json.dumps({"reasons": [], "first_stage": "ingest", **end})}]}
    return daily(f"range: {name}", {**outcome, **(script or {})}, until="2025-12-01", **given)


def halves(*ends: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the answers of the runs of the halves of two dates."""
    return {half["run_id"]: [end] for half, end in zip(HALVES, ends)}


def backfill(name: str, ends: list[dict[str, Any]], script: dict[str, list[Any]] | None = None, **given: Any) -> Case:
    """Return a case of the backfill machine with sequential dates, one for each of ``ends``."""
    dates = [{"run_date": f"2025-11-{day:02}", "run_id": f"daily-2025-11-{day:02}-1"} for day in range(1, len(ends) + 1)]
    started = {
        "env": "prod",
        "overrides": {},
        "archive": ARCHIVE,
        "daily": "arn:aws:states:us-east-1:123456789012:stateMachine:daily",
        "backfill_id": "backfill-2025-11-01-2025-11-30-1",
        "ranges": dates,
        "max_concurrency": 1,
        **given,
    }
    answers: dict[str, list[Any]] = {date["run_id"]: [end] for date, end in zip(dates, ends)}
    whole = {**answers, "daybook-prod-errand": [GOOD], **(script or {})}
    return {"name": f"backfill: {name}", "machine": "backfill", "execution": "b-1", "input": started, "script": whole}


def catch_up(name: str, script: dict[str, list[Any]], **given: Any) -> Case:
    """Return a case of the catch-up machine."""
    arn = "arn:aws:states:us-east-1:123456789012:stateMachine:"
    started = {
        "env": "prod",
        "overrides": {},
        "archive": ARCHIVE,
        "daily": f"{arn}daily",
        "backfill": f"{arn}backfill",
        "limit": 7,
        "max_concurrency": 2,
        **given,
    }
    whole = {"daybook-prod-errand": [GOOD], **script}
    return {"name": f"catch-up: {name}", "machine": "catch_up", "execution": "c-1", "input": started, "script": whole}


def gaps(*dates: str) -> dict[str, list[Any]]:
    """Return the object with the gaps."""
    found = {"backfill_id": "backfill-9", "ranges": [{"run_date": date, "run_id": f"daily-{date}-1"} for date in dates]}
    return {"prod/outcomes/c-1/gaps.json": [{"body": json.dumps(found)}]}


DAY_GOOD = {"output": {"outcome": "SUCCEEDED"}}
DAY_CLOSED = {"output": {"outcome": "SKIPPED"}}
DAY_FAILED = {"error": "Daybook.Failed", "cause": json.dumps({"State": "Ingest", "Error": "States.TaskFailed", "Cause": "no"})}
DAY_REJECTED = {"error": "Daybook.Rejected", "cause": "A gate rejected 2025-11-01; the run record has the reasons."}
TOO_MANY = {"throws": "ExecutionLimitExceeded"}
HALVES = [{"run_date": day, "run_id": f"daily-{day}-3"} for day in ("2025-11-30", "2025-12-01")]
HALVED = {"outcome": "FAILED", "halves": HALVES}

CASES: list[Case] = [
    daily("success", {}),
    daily("of a backfill, with a name of its own", {}, run_id="daily-2025-11-30-4", part_of="backfill-1"),
    daily("from a later stage", {}, first_stage="aggregate"),
    daily("only notify is left", {}, first_stage="notify", outcome="REJECTED", failure="null"),
    daily("fails twice, then succeeds", {"daybook-prod-ingest": [FAILED, FAILED, GOOD]}),
    daily("fails four times", {"daybook-prod-transform": [FAILED]}),
    daily("an error of Glue's own", {"daybook-prod-quality": [{"state": "ERROR", "message": "Internal"}, GOOD]}),
    daily("Glue's own time-out", {"daybook-prod-validate": [{"state": "TIMEOUT"}, GOOD]}),
    daily("the state's time-out, once", {"daybook-prod-ingest": [{"hangs": True}, GOOD]}),
    daily("the state's time-out, each time", {"daybook-prod-ingest": [{"hangs": True}]}),
    daily("stopped by hand", {"daybook-prod-aggregate": [{"state": "STOPPED"}]}),
    daily("notify stopped by hand", {"daybook-prod-notify": [{"state": "STOPPED"}]}),
    daily("rejected by validation", {}, outcomes={"validate": "REJECTED"}),
    daily("rejected by quality", {}, outcomes={"quality": "REJECTED"}),
    daily("closed shop", {}, outcomes={"ingest": "SKIPPED"}),
    daily("a permanent failure", {}, outcomes={"transform": "FAILED"}),
    daily("a permanent failure after a fault", {"daybook-prod-ingest": [FAILED, GOOD]}, outcomes={"ingest": "FAILED"}),
    daily("a permanent failure, and notify fails", {"daybook-prod-notify": [FAILED]}, outcomes={"quality": "FAILED"}),
    daily("an outcome nobody knows", {}, outcomes={"transform": "PERHAPS"}),
    of_range("success", {"outcome": "SUCCEEDED", "halves": []}),
    of_range("one date rejected", {"outcome": "REJECTED", "halves": []}),
    of_range("one date failed", {"outcome": "FAILED", "halves": [], "reasons": ["it broke", "for good"]}),
    of_range("all dates closed", {"outcome": "SKIPPED", "halves": []}, outcomes={"ingest": "SKIPPED"}),
    of_range("halved", HALVED, {"daybook-prod-transform": [FAILED], **halves(DAY_GOOD, DAY_CLOSED)}),
    of_range("halved, one fails", HALVED, {"daybook-prod-transform": [FAILED], **halves(DAY_FAILED, DAY_GOOD)}),
    of_range("halved, one rejected", HALVED, {"daybook-prod-ingest": [FAILED], **halves(DAY_GOOD, DAY_REJECTED)}, splits=4),
    daily("throttled three times", {"daybook-prod-ingest": [THROTTLED, THROTTLED, THROTTLED, GOOD]}),
    daily(
        "throttled and failing, each with its own count", {"daybook-prod-ingest": [THROTTLED, FAILED, THROTTLED, FAILED, GOOD]}
    ),
    daily("throttled for ever", {"daybook-prod-ingest": [THROTTLED]}),
    daily("no such job", {"daybook-prod-ingest": [{"throws": "EntityNotFoundException"}]}),
    daily("no outcome left", {f"prod/outcomes/{RUN}/validate.json": [{"throws": "NoSuchKey"}]}),
    # For a failed expression, moto reports States.Runtime and Step Functions States.QueryEvaluationError.
    {**daily("an outcome that is no JSON", {f"prod/outcomes/{RUN}/ingest.json": [{"body": "{"}]}), "names_differ": True},
    daily("notify fails", {"daybook-prod-notify": [FAILED]}),
    daily("a stage fails and so does notify", {"daybook-prod-quality": [FAILED], "daybook-prod-notify": [FAILED]}),
    daily("rejected, and notify fails once", {"daybook-prod-notify": [FAILED, GOOD]}, outcomes={"quality": "REJECTED"}),
    backfill("no dates", []),
    backfill("all good", [DAY_GOOD, DAY_CLOSED, DAY_GOOD]),
    backfill("one failed", [DAY_GOOD, DAY_FAILED, DAY_GOOD]),
    backfill("one rejected", [DAY_GOOD, DAY_REJECTED]),
    backfill("failed and rejected", [DAY_REJECTED, DAY_FAILED, DAY_REJECTED]),
    backfill("stops at the first failure", [DAY_GOOD, DAY_FAILED, DAY_GOOD], fail_fast=True),
    backfill("does not stop at a rejected one", [DAY_REJECTED, DAY_GOOD], fail_fast=True),
    backfill("a date held by another run", [DAY_GOOD, {"error": "Daybook.DateHeld", "cause": "daily-2025-11-02-1"}]),
    backfill("too many executions, once", [DAY_GOOD], {"daily-2025-11-01-1": [TOO_MANY, DAY_GOOD]}),
    backfill("a name that is taken", [{"throws": "ExecutionAlreadyExists"}, DAY_GOOD]),
    backfill("the summary fails", [DAY_GOOD], {"daybook-prod-errand": [FAILED]}),
    backfill("the summary is stopped", [DAY_GOOD], {"daybook-prod-errand": [{"state": "STOPPED"}]}),
    backfill("three at a time", [DAY_GOOD, DAY_FAILED, DAY_GOOD, DAY_REJECTED, DAY_GOOD], max_concurrency=3),
    catch_up("no gaps", gaps()),
    catch_up("some gaps", {**gaps("2025-11-03", "2025-11-05"), "backfill-9": [DAY_GOOD]}),
    catch_up("since and until, stale ones too", gaps(), since="2025-11-01", until="2025-11-09", include_stale=True),
    catch_up("the backfill fails", {**gaps("2025-11-03"), "backfill-9": [{"error": "Daybook.DatesFailed", "cause": "1"}]}),
    catch_up("the gaps cannot be found", {"daybook-prod-errand": [FAILED]}),
    catch_up("the errand is stopped", {"daybook-prod-errand": [{"state": "STOPPED"}]}),
    catch_up("the errand left nothing", {"prod/outcomes/c-1/gaps.json": [{"throws": "NoSuchKey"}]}),
]
