"""Test the OpenLineage events of a closed run, and posting them."""

from __future__ import annotations

import http.server
import json
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.contracts import load_tables
from daybook.errors import ArchiveError
from daybook.execution import openlineage
from daybook.execution.openlineage import (
    build_rollback_events,
    build_run_events,
    dataset_identifier,
    format_json_lines,
    post_events,
    table_uri,
)
from daybook.execution.run_record import close_run
from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord, RollbackRecord, RunRecord
from daybook.settings import Settings, load_settings
from tests.range_records import build_attempts, build_range_record

RUN = "daily-2025-11-30-1"
SILVER_ORDERS = {
    "rows": {"bronze.orders.order_id": ["WINDOW"]},
    "columns": {
        "customer_key": {"bronze.orders.customer_id": ["TRANSFORMATION"]},
        "status": {"bronze.orders.status": ["TRANSFORMATION"]},
    },
}
GOLD_SALES = {
    "rows": {"silver.orders.order_date": ["FILTER", "GROUP_BY"], "touched.order_date": ["FILTER"]},
    "columns": {"gross_revenue": {"silver.order_items.line_amount": ["AGGREGATION"], "silver.orders.status": ["CONDITIONAL"]}},
}


ROLLBACK = RollbackRecord.model_validate(
    {
        "run_id": RUN,
        "run_date": "2025-11-30",
        "by": "a steward",
        "why": "wrong prices",
        "started_at": "2026-11-24T09:00:00.000Z",
        "ended_at": "2026-11-24T09:00:05.000Z",
        "tables": {
            "control.landed_dates": {"before": 3, "after": 4, "restored_from": [2]},
            "gold.daily_sales": {"before": 7, "after": 8, "restored_from": [5, 6]},
        },
    }
)


def attempt(stage: str, **changes: Any) -> dict[str, Any]:
    """Return an attempt's record with the keys that events are built from."""
    return {
        "stage": stage,
        "attempt": 1,
        "outcome": "SUCCEEDED",
        "reasons": [],
        "started_at": "2026-11-23T14:00:00.000Z",
        "ended_at": "2026-11-23T14:00:03.210Z",
        "tables_read": {},
        "tables_written": {},
        "inputs": [],
        "details": {},
        "failure": None,
        "engine": "duckdb 1.2.2",
        "code": {"commit": "1a2b3c4d", "dirty": False},
        "notebook": {"file": f"1_{stage}.attempt-1.ipynb", "sha256": "ab"},
        **changes,
    }


def run(*attempts: dict[str, Any], **changes: Any) -> RunRecord:
    """Return a closed run's record."""
    return RunRecord.model_validate(
        {
            "run_id": RUN,
            "run_date": "2025-11-30",
            "env": "local",
            "outcome": "SUCCEEDED",
            "reasons": [],
            "started_at": "2026-11-23T13:59:59.000Z",
            "ended_at": "2026-11-23T14:01:00.000Z",
            "stages": list(attempts),
            "lineage": {"silver.orders": SILVER_ORDERS, "gold.daily_sales": GOLD_SALES},
            **changes,
        }
    )


BROKEN = {
    "table": "orders",
    "severity": "warning",
    "checked": 9,
    "failing": 1,
    "samples": [],
    "measured": "",
    "outcome": "warned",
}
FULL = run(
    attempt(
        "ingest", inputs=[{"file": "orders.csv", "bytes": 85, "sha256": "cd", "rows": 3}], tables_written={"bronze.orders": 1}
    ),
    attempt(
        "validate",
        tables_read={"bronze.orders": 1},
        details={
            "rules": [
                {**BROKEN, "rule": "status is known", "severity": "error", "failing": 2, "samples": ["K77"]},
                {**BROKEN, "rule": "city is there", "outcome": "within limits"},
                {**BROKEN, "rule": "payments fit", "measured": "17.56, must be less than 15"},
            ]
        },
    ),
    attempt(
        "transform",
        tables_read={"bronze.orders": 1, "control.stale_dates": 4},
        tables_written={"silver.orders": 7, "control.landed_dates": 2},
        details={"merged": {"silver.orders": {"rows": 3, "inserted": 3}}},
    ),
    attempt(
        "aggregate",
        tables_read={"silver.orders": 7},
        tables_written={"candidate.daily_sales": 0, "candidate.touched_dates": 0},
        details={"candidates": {"gold.daily_sales": 5}},
    ),
    attempt("quality", tables_read={"candidate.daily_sales": 0}, tables_written={"gold.daily_sales": 9}),
)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DAYBOOK_HOME", "/srv/daybook")
    return load_settings("local")


@pytest.fixture
def events(settings: Settings) -> list[dict[str, Any]]:
    return build_run_events(FULL, settings)


def ended(events: list[dict[str, Any]], stage: str) -> dict[str, Any]:
    """Return the last event of a stage."""
    return [event for event in events if event["job"]["name"] == f"daily.{stage}"][-1]


def test_jobs_start_and_end_in_the_order_of_the_run(events: list[dict[str, Any]]) -> None:
    told = [(event["job"]["name"], event["eventType"]) for event in events]
    stages = [(f"daily.{stage.stage}", kind) for stage in FULL.stages for kind in ("START", "COMPLETE")]
    assert told == [("daily", "START"), *stages, ("daily", "COMPLETE")]


def test_events_have_the_required_fields(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        assert event["producer"].startswith("urn:daybook:")
        assert re.fullmatch(r"2026-11-23T\d\d:\d\d:\d\d\.\d{3}Z", event["eventTime"])
        assert uuid.UUID(event["run"]["runId"]).version == 5
        assert event["job"]["namespace"] == "daybook.local"
        for facet in facets_of(event):
            assert facet["_producer"] == event["producer"]
            assert re.fullmatch(r"https://openlineage\.io/spec/facets/\d-\d-\d/(\w+)\.json#/\$defs/\1", facet["_schemaURL"]), (
                facet["_schemaURL"]
            )


def facets_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every facet of an event."""
    yield from event["run"]["facets"].values()
    yield from event["job"]["facets"].values()
    for dataset in [*event["inputs"], *event["outputs"]]:
        assert dataset["namespace"]
        assert dataset["name"]
        for part in ("facets", "inputFacets", "outputFacets"):
            yield from dataset.get(part, {}).values()


def test_rollback_is_a_job_of_its_own(settings: Settings) -> None:
    whole = run(attempt("quality"))
    start, end = build_rollback_events(whole, ROLLBACK, settings)
    assert [start["eventType"], end["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == end["run"]["runId"] != build_run_events(whole, settings)[0]["run"]["runId"]
    assert end["job"]["name"] == "daily.rollback"
    assert end["job"]["facets"]["documentation"]["description"] == f"{RUN} was rolled back by a steward: wrong prices"

    def versions(side: str) -> list[str]:
        return [each["facets"]["version"]["datasetVersion"] for each in end[side]]

    assert (versions("inputs"), versions("outputs")) == (["5", "6"], ["8"])


def test_openlineage_classes_accept_every_event(events: list[dict[str, Any]], settings: Settings) -> None:
    base = pytest.importorskip("openlineage.client.generated.base", reason="needs the openlineage-python package")
    import importlib
    import pkgutil

    from openlineage.client import generated

    models = {}
    for found in pkgutil.iter_modules(generated.__path__):
        for model in vars(importlib.import_module(f"{generated.__name__}.{found.name}")).values():
            if isinstance(model, type) and issubclass(model, base.BaseFacet):
                models[model._get_schema()] = model
    failing = run(
        attempt("ingest", outcome="FAILED", failure={"cell": 3, "exception": "LandingError", "message": "gone"}),
        outcome="FAILED",
    )
    count = 0
    for event in [*events, *build_run_events(failing, settings), *build_rollback_events(failing, ROLLBACK, settings)]:
        base.RunEvent(
            eventTime=event["eventTime"],
            eventType=base.EventType(event["eventType"]),
            run=base.Run(runId=event["run"]["runId"]),
            job=base.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
            producer=event["producer"],
        )
        for facet in facets_of(event):
            # A class rejects unknown and missing keys.
            models[facet["_schemaURL"]](**{key: value for key, value in facet.items() if not key.startswith("_")})
            count += 1
    assert count > 50


def test_events_of_a_run_are_always_the_same(settings: Settings, events: list[dict[str, Any]]) -> None:
    assert build_run_events(FULL, settings) == events
    ids = [event["run"]["runId"] for event in events]
    assert len(set(ids)) == 1 + len(FULL.stages)
    again = build_run_events(FULL.changed(stages=[FULL.stages[0].changed(attempt=2)]), settings)
    assert again[0]["run"]["runId"] == ids[0]
    assert again[1]["run"]["runId"] not in ids
    assert again[1]["run"]["facets"]["parent"]["run"]["runId"] == ids[0]


def test_ingest_reads_files_and_writes_bronze(events: list[dict[str, Any]]) -> None:
    event = ended(events, "ingest")
    (file,) = event["inputs"]
    assert (file["namespace"], file["name"]) == ("file", "/srv/daybook/landing/orders.csv")
    statistics = file["inputFacets"]["inputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (3, 85)
    (table,) = event["outputs"]
    assert table["name"] == "/srv/daybook/lake/bronze/orders"
    assert table["facets"]["version"]["datasetVersion"] == "1"
    assert table["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "daybook.local", "name": "bronze.orders", "type": "TABLE"}
    ]


def test_rules_are_assertions_without_samples(events: list[dict[str, Any]]) -> None:
    (table,) = ended(events, "validate")["inputs"]
    assert table["name"].endswith("bronze/orders")
    found = table["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(each["assertion"], each["success"], each["severity"], each["actual"]) for each in found] == [
        ("status is known", False, "error", "2 of 9 rows fail"),
        ("city is there", True, "warn", "1 of 9 rows fail"),
        ("payments fit", False, "warn", "17.56, must be less than 15"),
    ]
    assert b"K77" not in format_json_lines(events)


def test_outputs_have_schema_row_count_and_lineage(events: list[dict[str, Any]]) -> None:
    (table,) = ended(events, "transform")["outputs"]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 3
    contract = load_tables("silver")["silver.orders"]
    assert [field["name"] for field in table["facets"]["schema"]["fields"]] == contract.columns
    lineage = table["facets"]["columnLineage"]
    bronze = {"namespace": "file", "name": "/srv/daybook/lake/bronze/orders"}
    assert lineage["fields"]["status"]["inputFields"] == [
        {**bronze, "field": "status", "transformations": [{"type": "DIRECT", "subtype": "TRANSFORMATION", "masking": False}]}
    ]
    assert lineage["dataset"] == [
        {**bronze, "field": "order_id", "transformations": [{"type": "INDIRECT", "subtype": "WINDOW", "masking": False}]}
    ]


def test_pseudonym_is_masked(events: list[dict[str, Any]]) -> None:
    (table,) = ended(events, "transform")["outputs"]
    (field,) = table["facets"]["columnLineage"]["fields"]["customer_key"]["inputFields"]
    assert field["transformations"] == [{"type": "DIRECT", "subtype": "TRANSFORMATION", "masking": True}]


def test_pseudonym_in_another_case_is_masked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = load_tables("silver")["silver.orders"]
    renamed = [each.model_copy(update={"name": each.name.title()}) for each in contract.properties]
    changed = {"silver.orders": contract.model_copy(update={"properties": renamed})}
    monkeypatch.setattr(openlineage, "load_tables", lambda layer: changed if layer == "silver" else {})
    (table,) = ended(build_run_events(FULL, settings), "transform")["outputs"]
    (field,) = table["facets"]["columnLineage"]["fields"]["customer_key"]["inputFields"]
    assert field["transformations"][0]["masking"] is True


def test_gold_lineage_goes_through_the_candidate(events: list[dict[str, Any]]) -> None:
    (candidate,) = ended(events, "aggregate")["outputs"]
    (gold,) = ended(events, "quality")["outputs"]
    published = gold["facets"]["columnLineage"]["fields"]["gross_revenue"]["inputFields"]
    assert [(field["name"], field["field"]) for field in published] == [(candidate["name"], "gross_revenue")]
    computed = candidate["facets"]["columnLineage"]
    assert [field["field"] for field in computed["fields"]["gross_revenue"]["inputFields"]] == ["line_amount", "status"]
    # Dates that a stage has computed are not a data set.
    assert [field["field"] for field in computed["dataset"]] == ["order_date"]
    assert (
        gold["outputFacets"]["outputStatistics"]["rowCount"] == candidate["outputFacets"]["outputStatistics"]["rowCount"] == 5
    )


def test_internal_tables_are_not_data_sets(events: list[dict[str, Any]]) -> None:
    names = [dataset["name"] for event in events for dataset in [*event["inputs"], *event["outputs"]]]
    assert len(names) > 5
    assert not [name for name in names if "control" in name or "touched_dates" in name]


def test_failed_attempt_has_an_error_message(settings: Settings) -> None:
    failure = {"cell": 3, "source": "x", "exception": "LandingError", "message": "orders.csv is not there.\nMore lines."}
    failed = attempt("ingest", outcome="FAILED", failure=failure, notebook=None, details={})
    events = build_run_events(run(failed, outcome="FAILED", reasons=["ingest failed"], lineage={}), settings)
    assert [event["eventType"] for event in events] == ["START", "START", "FAIL", "FAIL"]
    said = "ingest failed in cell 3 (attempt 1): LandingError: orders.csv is not there."
    assert events[2]["run"]["facets"]["errorMessage"]["message"] == said
    assert events[3]["run"]["facets"]["errorMessage"]["message"] == "ingest failed"
    assert "sourceCodeLocation" not in events[2]["job"]["facets"]


@pytest.mark.parametrize("outcome", ["REJECTED", "SKIPPED"])
def test_rejection_is_complete(settings: Settings, outcome: str) -> None:
    events = build_run_events(run(attempt("quality", outcome=outcome), outcome=outcome, reasons=["no"]), settings)
    assert {event["eventType"] for event in events} == {"START", "COMPLETE"}


def test_table_uri_equals_the_lakes(settings: Settings) -> None:
    lake = Lake(settings.lake, run_id=RUN)
    for table in ("bronze.orders", "silver.orders", "gold.daily_sales", "quarantine.orders"):
        assert table_uri(settings, table) == lake.uri(table)


def test_bucket_is_the_namespace() -> None:
    assert dataset_identifier("s3://shop-lake/lake/gold/daily_sales") == {
        "namespace": "s3://shop-lake",
        "name": "lake/gold/daily_sales",
    }


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """Return a local server that keeps the posted events; ``answer`` is the status of its responses."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
            self.send_response(server.answer)  # type: ignore[attr-defined]
            if 300 <= server.answer < 400:  # type: ignore[attr-defined]
                self.send_header("Location", f"{url_of(server)}/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            server.got.append((self.path, "", None))  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answer = [], 201  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url_of(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}/api/v1/lineage"


def test_events_are_posted_one_by_one(endpoint: Any, events: list[dict[str, Any]]) -> None:
    post_events(events, url_of(endpoint))
    assert (
        [body for _, _, body in endpoint.got] == [json.loads(line) for line in format_json_lines(events).splitlines()] == events
    )
    assert {(path, kind) for path, kind, _ in endpoint.got} == {("/api/v1/lineage", "application/json")}


def test_first_refused_event_ends_posting(endpoint: Any, events: list[dict[str, Any]]) -> None:
    endpoint.answer = 500
    with pytest.raises(ArchiveError, match=r"could not be posted to 127.0.0.1:\d+ \(HTTP Error 500"):
        post_events(events, url_of(endpoint))
    assert len(endpoint.got) == 1


@pytest.mark.parametrize("answer", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(endpoint: Any, events: list[dict[str, Any]], answer: int) -> None:
    endpoint.answer = answer
    with pytest.raises(ArchiveError, match=rf"could not be posted to 127.0.0.1:\d+ \(HTTP Error {answer}"):
        post_events(events, url_of(endpoint))
    assert [path for path, _, _ in endpoint.got] == ["/api/v1/lineage"]


def test_request_has_a_timeout(monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(openlineage, "_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ArchiveError, match="timed out"):
        post_events(events, f"http://127.0.0.1:{silent.getsockname()[1]}/")


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "https://user:secret@example.org/"])
def test_setting_accepts_plain_http_urls_only(url: str) -> None:
    from daybook.errors import ParamsError

    with pytest.raises(ParamsError, match="openlineage_url"):
        load_settings("local", {"openlineage_url": url})


@pytest.fixture
def archive(home: Path) -> Archive:
    """Return an archive with a run whose only attempt has the lineage of a table."""
    archive = Archive(load_settings("local").archive)
    archive.start_run(date(2025, 11, 30), {})
    archive.claim_attempt(RUN, "aggregate", {})
    left = {
        **attempt("aggregate", details={"lineage": {"gold.daily_sales": GOLD_SALES}}),
        "record": "attempt",
        "run_id": RUN,
        "run_date": "2025-11-30",
        "env": "local",
        "rows": {},
        "seconds": 1.5,
    }
    archive.write_attempt(AttemptRecord.model_validate(left), b"{}", b"")
    return archive


def test_closing_a_run_archives_its_events(archive: Archive) -> None:
    close_run(archive, load_settings("local"), RUN, "SUCCEEDED", [])
    record = archive.run(RUN)
    assert record.lineage == {"gold.daily_sales": GOLD_SALES}
    assert "lineage" not in record.stages[0].details.model_fields_set
    lines = archive.store.read(f"{archive.folder(RUN)}/openlineage.jsonl").splitlines()
    assert [json.loads(line)["eventType"] for line in lines] == ["START", "START", "COMPLETE", "COMPLETE"]


def test_closing_a_run_posts_its_events_if_configured(archive: Archive, endpoint: Any) -> None:
    close_run(archive, load_settings("local", {"openlineage_url": url_of(endpoint)}), RUN, "SUCCEEDED", [])
    lines = archive.store.read(f"{archive.folder(RUN)}/openlineage.jsonl").splitlines()
    assert [body for _, _, body in endpoint.got] == [json.loads(line) for line in lines]


def test_failure_to_post_is_a_warning(archive: Archive, endpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.answer = 503
    record = close_run(archive, load_settings("local", {"openlineage_url": url_of(endpoint)}), RUN, "SUCCEEDED", [])
    assert record.outcome == archive.run(RUN).outcome == "SUCCEEDED"
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "daybook.execution.run_record"]
    assert warning.startswith(
        f"{RUN}: The lineage events could not be posted to {url_of(endpoint).split('/')[2]} (HTTP Error 503"
    )
    assert archive.store.exists(f"{archive.folder(RUN)}/openlineage.jsonl")


def test_failure_to_build_events_is_a_warning(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("somebody@example.org")

    monkeypatch.setattr("daybook.execution.run_record.build_run_events", fail)
    close_run(archive, load_settings("local"), RUN, "SUCCEEDED", [])
    assert archive.run(RUN).outcome == "SUCCEEDED"
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "daybook.execution.run_record"]
    assert warning == f"{RUN}: no lineage events were written (KeyError)."


# Ranges


def test_events_of_a_range_span_its_dates_and_have_their_figures() -> None:
    dates = {"2025-11-29": "daily-2025-11-29-2", "2025-11-30": "daily-2025-11-30-2"}
    name = "range-2025-11-29-2025-11-30-1"
    attempts = build_attempts(name, list(dates), {"2025-11-30": ("validate", "REJECTED")})
    start, *events, end = build_run_events(build_range_record(name, dates, attempts, env="local"), load_settings("local"))
    assert {each["run"]["facets"]["nominalTime"]["nominalStartTime"] for each in events} == {"2025-11-29T00:00:00+01:00"}
    assert {each["run"]["facets"]["nominalTime"]["nominalEndTime"] for each in events} == {"2025-12-01T00:00:00+01:00"}
    assert "daybook_dates" not in start["run"]["facets"]
    assert end["run"]["facets"]["daybook_dates"]["dates"] == {
        "2025-11-29": {"runId": "daily-2025-11-29-2", "outcome": "SUCCEEDED"},
        "2025-11-30": {"runId": "daily-2025-11-30-2", "outcome": "REJECTED"},
    }
    (validated,) = [each for each in events if each["job"]["name"] == "daily.validate" and each["eventType"] == "COMPLETE"]
    assert validated["run"]["facets"]["daybook_dates"]["dates"]["2025-11-30"] == {
        "outcome": "REJECTED",
        "rows": {"in": 10, "out": 9},
    }
    assert f"/ranges/{name}/2_validate.attempt-1.ipynb" in validated["job"]["facets"]["sourceCodeLocation"]["url"]
