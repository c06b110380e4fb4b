"""Test that the archive takes each id once, writes each record once, and describes interrupted runs."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import ArchiveError, StorageError, UsageError
from daybook.records.archive import (
    LOST_REASON,
    Archive,
    attempt_name,
    current_timestamp,
    describe_missing_files,
    outcome_key,
    parse_timestamp,
    serialize_record,
    sha256,
)
from daybook.records.failures import describe_failure, first_line
from daybook.records.locks import DateLocks
from daybook.records.models import SCHEMA_VERSION, ArchivedFile, AttemptRecord
from tests.sample_records import attempt_record, run_record

DAY = date(2025, 11, 30)
RUN = "daily-2025-11-30-1"
FOLDER = f"run_date=2025-11-30/{RUN}"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


def attempt(stage: str = "ingest", number: int = 1, **others: Any) -> AttemptRecord:
    return attempt_record(stage, **{"run_id": RUN, "attempt": number, **others})


def names(archive: Archive) -> list[str]:
    """Return the files in the folder of the run."""
    return [key.rsplit("/", 1)[1] for key in archive.store.keys(FOLDER)]


def content(archive: Archive) -> dict[str, bytes]:
    return {key: archive.store.read(key) for key in archive.store.keys("")}


# Run ids


def test_first_run_of_a_date_is_number_one(archive: Archive) -> None:
    assert archive.start_run(DAY, {}) == RUN
    assert names(archive) == ["started.json"]


def test_next_run_of_a_date_has_the_next_number(archive: Archive) -> None:
    assert [archive.start_run(DAY, {}) for _ in range(11)][-2:] == ["daily-2025-11-30-10", "daily-2025-11-30-11"]


def test_dates_are_numbered_separately(archive: Archive) -> None:
    archive.start_run(DAY, {})
    assert archive.start_run(date(2025, 12, 1), {}) == "daily-2025-12-01-1"


def test_start_record_has_the_given_facts(archive: Archive) -> None:
    archive.start_run(DAY, {"env": "local"})
    started = json.loads(archive.store.read(f"{FOLDER}/started.json"))
    assert started["run_id"] == RUN
    assert started["env"] == "local"
    assert parse_timestamp(started["started_at"]).tzinfo is not None


def test_concurrent_starts_get_different_ids(archive: Archive) -> None:
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: archive.start_run(DAY, {}), range(16)))
    assert sorted(given) == sorted(f"daily-2025-11-30-{number}" for number in range(1, 17))


def test_id_taken_before_the_write_is_not_reused(archive: Archive, monkeypatch: Any) -> None:
    archive.start_run(DAY, {"env": "theirs"})
    monkeypatch.setattr(archive, "run_ids", lambda run_date=None: [])
    assert archive.start_run(DAY, {"env": "mine"}) == "daily-2025-11-30-2"
    assert archive.run(RUN).env == "theirs"


def test_given_run_id_is_taken_once(archive: Archive) -> None:
    archive.ensure_started(RUN)
    before = content(archive)
    archive.ensure_started(RUN)
    assert content(archive) == before
    assert archive.start_run(DAY, {}) == "daily-2025-11-30-2"


# Attempts


def test_attempts_of_a_stage_are_numbered_from_one(archive: Archive) -> None:
    assert [archive.claim_attempt(RUN, "ingest", {}) for _ in range(3)] == [1, 2, 3]
    assert archive.claim_attempt(RUN, "validate", {}) == 1


def test_concurrent_claims_get_different_numbers(archive: Archive) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: archive.claim_attempt(RUN, "ingest", {}), range(12)))
    assert sorted(numbers) == list(range(1, 13))


def test_attempt_has_record_notebook_and_page(archive: Archive) -> None:
    archive.write_attempt(attempt("transform", 2), b"{}", b"<p>")
    assert names(archive) == ["3_transform.attempt-2.html", "3_transform.attempt-2.ipynb", "3_transform.attempt-2.json"]
    assert archive.store.read(f"{FOLDER}/3_transform.attempt-2.ipynb") == b"{}"
    assert archive.store.read(f"{FOLDER}/3_transform.attempt-2.html") == b"<p>"


def test_record_has_the_digests_of_notebook_and_page(archive: Archive) -> None:
    returned = archive.write_attempt(attempt(), b"notebook", b"page")
    (stored,) = archive.attempts(RUN)
    assert stored == returned
    assert stored.notebook == ArchivedFile(file="1_ingest.attempt-1.ipynb", sha256=sha256(b"notebook"))
    assert stored.html == ArchivedFile(file="1_ingest.attempt-1.html", sha256=sha256(b"page"))


def test_attempt_is_never_overwritten(archive: Archive) -> None:
    archive.write_attempt(attempt(outcome="FAILED"), b"first", b"first")
    before = content(archive)
    with pytest.raises(ArchiveError) as caught:
        archive.write_attempt(attempt(), b"second", b"second")
    where = archive.store.href(f"{FOLDER}/1_ingest.attempt-1.json")
    assert str(caught.value) == f"{where} already exists and is never overwritten; start another run instead."
    assert content(archive) == before


def test_record_is_written_before_the_notebook(archive: Archive, monkeypatch: Any) -> None:
    create = archive.store.create

    def full(key: str, data: bytes) -> None:
        if key.endswith(".ipynb"):
            raise OSError("no space left")
        create(key, data)

    monkeypatch.setattr(archive.store, "create", full)
    archive.claim_attempt(RUN, "ingest", {})
    with pytest.raises(OSError, match="no space left"):
        archive.write_attempt(attempt(outcome="FAILED"), b"notebook", b"page")
    assert [each.outcome for each in archive.attempts(RUN)] == ["FAILED"]
    assert archive.read_abandoned_attempts(RUN) == []
    assert archive.claim_attempt(RUN, "ingest", {}) == 2


def test_attempts_are_in_order_of_stage_and_number(archive: Archive) -> None:
    for stage, number in [("validate", 10), ("validate", 9), ("notify", 1), ("ingest", 1)]:
        archive.write_attempt(attempt(stage, number), b"", b"")
    found = [(each.stage, each.attempt) for each in archive.attempts(RUN)]
    assert found == [("ingest", 1), ("validate", 9), ("validate", 10), ("notify", 1)]


def test_attempts_of_runs_1_and_10_are_separate(archive: Archive) -> None:
    archive.write_attempt(attempt(run_id="daily-2025-11-30-10"), b"", b"")
    assert archive.attempts(RUN) == []


def test_claim_without_a_record_is_an_abandoned_attempt(archive: Archive) -> None:
    archive.claim_attempt(RUN, "ingest", {"scratch": "one"})
    archive.write_attempt(attempt(), b"", b"")
    archive.claim_attempt(RUN, "validate", {"scratch": "two"})
    archive.claim_attempt(RUN, "validate", {"scratch": "three"})
    found = [(stage, number, claim.scratch) for stage, number, claim in archive.read_abandoned_attempts(RUN)]
    assert found == [("validate", 1, "two"), ("validate", 2, "three")]


def test_outcome_is_that_of_the_last_attempt(archive: Archive) -> None:
    failure = {"cell": 4, "exception": "FormatError", "message": "a.csv is a ZIP file.\nMore.", "permanent": True}
    for number, outcome, failed in [(1, "FAILED", failure), (2, "SUCCEEDED", None)]:
        permanent = failed is not None
        facts = {"failure": failed, "permanent": permanent, "rows": {"in": 7}, "inputs": [{"file": "not for the Choice"}]}
        archive.write_outcome(attempt(number=number, outcome=outcome, reasons=[], **facts))
        why = ", not retried: the same input would fail again"
        assert json.loads(archive.store.read(outcome_key(RUN, "ingest"))) == {
            "schema_version": SCHEMA_VERSION,
            "stage": "ingest",
            "attempt": number,
            "outcome": outcome,
            "permanent": permanent,
            "reasons": [f"ingest failed in cell 4 (attempt 1{why}): FormatError: a.csv is a ZIP file."] if failed else [],
            "rows": {"in": 7},
        }


# Runs


def test_open_run_is_lost_unless_its_date_is_locked(archive: Archive) -> None:
    archive.start_run(DAY, {"env": "local"})
    archive.write_attempt(attempt(), b"", b"")
    with DateLocks(archive.store.uri, [DAY]) as lock:
        # A holder without a run id yet may be the process of this run.
        assert archive.run(RUN).state == "running"
        lock.write_holder("daily-2025-11-30-2")
        assert archive.run(RUN).state == "lost"
        lock.write_holder(RUN)
        found = archive.run(RUN)
        assert (found.state, found.outcome, found.run_date) == ("running", "RUNNING", DAY)
        assert f"process {os.getpid()}" in found.reasons[0]
    found = archive.run(RUN)
    assert (found.state, found.outcome, found.env) == ("lost", "FAILED", "local")
    assert found.reasons == [LOST_REASON]
    assert [each.stage for each in found.stages] == ["ingest"]


def test_date_run_is_running_while_its_range_holds_the_date(archive: Archive) -> None:
    archive.start_named_run(RUN, {})
    archive.start_named_run("range-2025-11-29-2025-11-30-1", {})
    with DateLocks(archive.store.uri, [DAY]) as lock:
        lock.write_holder("range-2025-11-29-2025-11-30-1")
        assert [archive.run(each).state for each in (RUN, "daily-2025-11-30-2")] == ["lost", "running"]
        lock.write_holder("range-2025-11-30-2025-12-01-1")
        assert archive.run("daily-2025-11-30-2").state == "lost"


def test_resumed_run_is_running_again(archive: Archive) -> None:
    archive.start_run(DAY, {})
    archive.write_run(run_record(RUN, "FAILED"))
    with DateLocks(archive.store.uri, [DAY]) as lock:
        assert archive.run(RUN).outcome == "FAILED"
        lock.write_holder(RUN)
        assert archive.run(RUN).outcome == "RUNNING"
    assert archive.run(RUN).outcome == "FAILED"


def test_run_with_a_closing_record_is_closed(archive: Archive) -> None:
    archive.start_run(DAY, {})
    archive.write_run(run_record(RUN, "SUCCEEDED"))
    assert archive.run(RUN).to_json() == {
        "run_id": RUN,
        "run_date": "2025-11-30",
        "outcome": "SUCCEEDED",
        "state": "closed",
    }


def test_newest_record_of_a_resumed_run_counts(archive: Archive) -> None:
    archive.start_run(DAY, {})
    for number in range(12):
        archive.write_run(run_record(RUN, reasons=[f"record {number}"]))
    assert {"run.json", "run.redrive-1.json", "run.redrive-11.json"} <= set(names(archive))
    assert archive.run(RUN).reasons == ["record 11"]
    assert json.loads(archive.store.read(f"{FOLDER}/run.json"))["reasons"] == ["record 0"]


def test_number_of_closing_records_is_limited(archive: Archive) -> None:
    for number in range(100):
        archive.store.create(f"{FOLDER}/run{f'.redrive-{number}' if number else ''}.json", b"{}")
    with pytest.raises(ArchiveError, match=rf"^{RUN} has been resumed 99 times; start a new run\.$"):
        archive.write_run(run_record(RUN))


def test_history_of_a_run_is_its_newest(archive: Archive) -> None:
    archive.write_history(RUN, b'{"id": 1}\n')
    archive.write_history(RUN, b'{"id": 1}\n{"id": 2}\n')
    assert archive.history(RUN) == [{"id": 1}, {"id": 2}]
    assert names(archive) == ["history.jsonl", "history.redrive-1.jsonl"]


def test_run_without_archived_events_has_no_history(archive: Archive) -> None:
    assert archive.history(RUN) == []


@pytest.mark.parametrize("look", ["run", "history"])
def test_invalid_run_id_is_refused(archive: Archive, look: str) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(archive, look)("nightly-7")
    assert str(caught.value) == (
        "'nightly-7' is not a run's name; they look like daily-2025-11-30-1, or range-2025-11-01-2025-11-30-1 for a range of "
        "dates, and `daybook runs` lists them."
    )


def test_files_missing_after_a_kill_are_listed(archive: Archive) -> None:
    archive.start_run(DAY, {})
    archive.write_attempt(attempt(), b"notebook", b"page")
    lost = attempt("validate", notebook={"file": "2_validate.attempt-1.ipynb"}, html={"file": "2_validate.attempt-1.html"})
    archive.store.create(f"{FOLDER}/2_validate.attempt-1.json", serialize_record(lost))
    archive.store.create(f"{FOLDER}/2_validate.attempt-1.ipynb", b"notebook")
    whole, half = archive.run(RUN).stages
    assert whole.missing == []
    assert half.missing == ["2_validate.attempt-1.html"]
    assert describe_missing_files(whole) == ""
    assert describe_missing_files(half).startswith(
        "validate (attempt 1): its page never came into the archive: after its record"
    )

    archive.write_run(run_record(RUN, "FAILED", stages=archive.attempts(RUN), lineage={}))
    assert archive.run(RUN).missing == ["openlineage.jsonl"]
    assert [each.missing for each in archive.run(RUN).stages] == [[], ["2_validate.attempt-1.html"]]
    archive.write_lineage_events(RUN, b"")
    assert archive.run(RUN).missing == []


def test_withheld_notebook_is_not_missing(archive: Archive) -> None:
    archive.start_run(DAY, {})
    archive.write_attempt(attempt(), None, None)
    assert [each.missing for each in archive.run(RUN).stages] == [[]]


def test_closing_records_are_counted(archive: Archive) -> None:
    archive.start_run(DAY, {})
    counts = [archive.count_closing_records(RUN)]
    for _ in range(2):
        archive.write_run(run_record(RUN, "FAILED"))
        counts.append(archive.count_closing_records(RUN))
    assert counts == [0, 1, 2]


def test_id_that_could_not_be_written_is_free(archive: Archive, disks: Any, tmp_path: Path) -> None:
    disk = disks.mount(tmp_path / "archive")
    disk.fill()
    with pytest.raises(StorageError, match=r"daily-2025-11-30-1/started\.json could not be written: its disk is full"):
        archive.start_run(DAY, {})
    assert archive.run_ids() == []
    disk.free()
    assert archive.start_run(DAY, {}) == RUN
    disk.fill()
    with pytest.raises(StorageError, match=r"1_ingest\.attempt-1\.claim could not be written: its disk is full"):
        archive.claim_attempt(RUN, "ingest", {})


def test_unknown_run_is_reported(archive: Archive) -> None:
    archive.start_run(DAY, {})
    with pytest.raises(UsageError) as caught:
        archive.run("daily-2025-11-30-2")
    assert str(caught.value) == "There is no run daily-2025-11-30-2; `daybook runs` lists them."


def test_runs_are_listed_by_date_and_number(archive: Archive) -> None:
    listed = [f"daily-2025-11-30-{number}" for number in range(1, 12)]
    for run_id in ["daily-2025-12-01-1", *reversed(listed), "daily-2025-10-31-1"]:
        archive.ensure_started(run_id)
    archive.store.replace(outcome_key(RUN, "ingest"), b"{}")
    assert archive.run_ids() == ["daily-2025-10-31-1", *listed, "daily-2025-12-01-1"]
    assert archive.run_ids(DAY) == listed
    assert archive.run_ids(date(2025, 1, 1)) == []


# Format of records


def test_editor_checkpoints_are_not_runs(archive: Archive, tmp_path: Path) -> None:
    archive.start_run(DAY, {})
    checkpoint = tmp_path / "archive" / "run_date=2025-11-30" / ".ipynb_checkpoints" / "4_aggregate-checkpoint.ipynb"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    assert archive.run_ids() == archive.run_ids(DAY) == [RUN]


def test_timestamps_are_utc_milliseconds_and_round_trip() -> None:
    before = datetime.now(timezone.utc)
    text = current_timestamp()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert abs(parse_timestamp(text) - before) < timedelta(seconds=60)


def test_records_are_indented_json_without_escapes() -> None:
    assert serialize_record({"stadt": "Köln", "day": DAY}) == '{\n  "stadt": "Köln",\n  "day": "2025-11-30"\n}\n'.encode()


def test_digest_is_sha_256() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_of_an_attempt_begin_with_the_notebook_name() -> None:
    assert attempt_name("quality", 3) == "5_quality.attempt-3"


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            {"cell": 4, "exception": "ValueError", "message": "no orders\nin file x"},
            "transform failed in cell 4 (attempt 2): ValueError: no orders",
        ),
        (
            {"cell": 4, "exception": None, "message": "the kernel died"},
            "transform failed in cell 4 (attempt 2): the kernel died",
        ),
        ({"cell": None, "exception": None, "message": "cut off"}, "transform failed (attempt 2): cut off"),
    ],
)
def test_failure_is_one_sentence(failure: dict[str, Any], sentence: str) -> None:
    assert describe_failure(attempt("transform", 2, failure=failure)) == sentence


def test_long_first_line_is_cut() -> None:
    assert first_line("  short\nsecond") == "short"
    assert first_line("x" * 5_000_000 + "\nsecond") == "x" * 2_000 + " [left out: 4,998,000 characters]"
