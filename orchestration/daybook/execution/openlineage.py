"""Build OpenLineage events (specification 2-0-2) from the record of a closed run, and post them.

Events have names, counts and the record's text of a fault; the record was searched for personal data before it was written.
A run is a run of a parent job, and each attempt of a stage is a run of its own. Their UUIDs are derived from their names, so
the same run always has the same events. Source: https://openlineage.io/spec/2-0-2/OpenLineage.json

The events are plain dicts. The classes of openlineage-python 1.45.0, the newest release for Python 3.9, would replace the facet
versions and 20 lines, but take 0.3 s of CPU time to import at the end of each run (3 % of a small day), and add 5 packages
and 2 MB to the bundle. A test builds every facet with the classes of the newest release.
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook import __version__
from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.columns import find_column
from daybook.errors import ArchiveError
from daybook.lake.lineage.graph import DIRECT_KINDS, Lineage, split_column
from daybook.records.archive import run_folder
from daybook.records.failures import describe_failure
from daybook.records.models import AttemptRecord, RollbackRecord, RuleResult, RunRecord
from daybook.records.names import notebook_name
from daybook.settings import Settings

Facet = dict[str, Any]
Event = dict[str, Any]

PRODUCER = f"urn:daybook:{__version__}"
_SPEC = "https://openlineage.io/spec"
_EVENT_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_RUN_FACET_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"
_DATES_FACET = "daybook_dates"
"""A run facet of this producer: the outcome and rows of each date of a range."""
_FACET_VERSIONS = {
    "ColumnLineageDatasetFacet": "1-2-0",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
    "DatasetVersionDatasetFacet": "1-0-1",
    "DatasourceDatasetFacet": "1-0-1",
    "DocumentationJobFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeLocationJobFacet": "1-1-0",
    "SymlinksDatasetFacet": "1-0-1",
}
_JOB = "daily"
_INTERNAL_TABLES = ("control.", "candidate.touched_dates")
"""Tables for Daybook's own use, which are not reported as data sets."""
_TIMEOUT_SECONDS = 5.0
"""Timeout of a request to the endpoint."""


def build_run_events(record: RunRecord, settings: Settings) -> list[Event]:
    """Return the events of a closed run.

    Parameters
    ----------
    record
        The run's record.
    settings
        The deployment, whose landing, lake and archive the events name.

    Returns
    -------
    list of dict
        START and COMPLETE (or FAIL) of the run, with those of every attempt between them.
    """
    run = _RunEventBuilder(record, settings)
    events = [run.event("START", record.started_at)]
    for attempt in record.stages:
        events += run.attempt_events(attempt)
    ended = "FAIL" if record.outcome == "FAILED" else "COMPLETE"
    return [*events, run.event(ended, record.ended_at or record.started_at, message="; ".join(record.reasons))]


def build_rollback_events(record: RunRecord, rollback: RollbackRecord, settings: Settings) -> list[Event]:
    """Return START and COMPLETE of a finished rollback, a job with the run as its parent.

    Parameters
    ----------
    record, rollback
        The record of the run whose publication was taken back, and that of the rollback.
    settings
        The deployment, whose lake and archive the events name.
    """
    run = _RunEventBuilder(record, settings)
    facets = {"parent": run.parent(), "nominalTime": run.nominal_time()}
    job = run.job(f"{_JOB}.rollback", "COMMAND")
    told = f"{rollback.run_id} was rolled back by {rollback.by}: {rollback.why}"
    job["facets"]["documentation"] = _build_facet("DocumentationJobFacet", description=told)
    events = [
        run.event_of(kind, moment, run.uuid("rollback"), dict(facets), job)
        for kind, moment in (("START", rollback.started_at), ("COMPLETE", rollback.ended_at or rollback.started_at))
    ]
    tables = {name: each for name, each in sorted(rollback.tables.items()) if not name.startswith(_INTERNAL_TABLES)}
    end = events[-1]
    end["inputs"] = [
        {**run.dataset(name, version), "inputFacets": {}} for name, each in tables.items() for version in each.restored_from
    ]
    end["outputs"] = [{**run.dataset(name, each.after), "outputFacets": {}} for name, each in tables.items()]
    return events


def format_json_lines(events: Iterable[Event]) -> bytes:
    """Return events as JSON lines."""
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


def post_events(events: Iterable[Event], url: str) -> None:
    """Post events to an OpenLineage endpoint, one request each.

    Raises ``ArchiveError`` at the first failure, without posting the rest.
    """
    for event in events:
        request = urllib.request.Request(  # noqa: S310 (the setting allows https, and http on this machine)
            url,
            data=json.dumps(event).encode(),
            headers={"Content-Type": "application/json", "User-Agent": f"daybook/{__version__}"},
            method="POST",
        )
        try:
            with _NO_REDIRECT_OPENER.open(request, timeout=_TIMEOUT_SECONDS):
                pass
        except (
            OSError,
            ValueError,
        ) as error:  # URLError, HTTPError and timeouts are OSErrors; a broken response is a ValueError
            host = url.split("/")[2]
            raise ArchiveError(
                f"The lineage events could not be posted to {host} ({error}); post openlineage.jsonl from the archive later."
            ) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: events go to the configured host only."""

    def redirect_request(self, *_: Any) -> None:
        return None


_NO_REDIRECT_OPENER = urllib.request.build_opener(_NoRedirects)


def table_uri(settings: Settings, table: str) -> str:
    """Return the address of a table that a named run writes.

    This repeats ``Lake.uri``, because ``daybook.lake.tables`` is slow to import. A candidate has the same address in every run,
    although each run has its own folder: otherwise every run would report new data sets.
    """
    layer, _, name = table.partition(".")
    return f"{settings.lake}/{layer}/{name}"


def dataset_identifier(uri: str) -> dict[str, str]:
    """Return the OpenLineage namespace and name of an address: ``s3://bucket`` and the key, or ``file`` and the path."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return {"namespace": "file", "name": uri}
    bucket, _, key = rest.partition("/")
    return {"namespace": f"{scheme}://{bucket}", "name": key}


class _RunEventBuilder:
    """Builds the events of a run."""

    def __init__(self, record: RunRecord, settings: Settings) -> None:
        self.record = record
        self.settings = settings
        self.run_id = record.run_id
        self.namespace = f"daybook.{record.env}"
        self.contracts: dict[str, Table] = {name: table for layer in LAYERS for name, table in load_tables(layer).items()}
        self.lineage: Lineage = record.lineage or {}
        # Rows by gold table, of the last attempt of aggregate. The quality stage publishes the same rows.
        self.candidates: dict[str, int] = {}
        for attempt in record.stages:
            self.candidates.update(attempt.details.candidates)

    def event(self, kind: str, moment: str, *, message: str = "") -> Event:
        """Return an event of the run."""
        facets = {"nominalTime": self.nominal_time()}
        if kind != "START" and self.record.dates:
            facets[_DATES_FACET] = _build_dates_facet(
                {day: {"runId": each.run_id, "outcome": each.outcome} for day, each in self.record.dates.items()}
            )
        if kind == "FAIL":
            facets["errorMessage"] = _build_facet("ErrorMessageRunFacet", message=message, programmingLanguage="PYTHON")
        return self.event_of(kind, moment, self.uuid(), facets, self.job(_JOB, "DAG"))

    def attempt_events(self, attempt: AttemptRecord) -> list[Event]:
        """Return START and COMPLETE (or FAIL) of an attempt. A rejection is COMPLETE, with the rules that failed."""
        stage = attempt.stage
        run_uuid = self.uuid(stage, str(attempt.attempt))
        facets = {
            "parent": self.parent(),
            "nominalTime": self.nominal_time(),
        }
        if attempt.engine:
            name, _, version = attempt.engine.partition(" ")
            facets["processing_engine"] = _build_facet(
                "ProcessingEngineRunFacet", name=name, version=version or "unknown", openlineageAdapterVersion=__version__
            )
        job = self.job(f"{_JOB}.{stage}", "NOTEBOOK", attempt)
        start = self.event_of("START", attempt.started_at, run_uuid, dict(facets), job)
        kind = "COMPLETE"
        if attempt.outcome == "FAILED":
            kind = "FAIL"
            facets["errorMessage"] = _build_facet(
                "ErrorMessageRunFacet", message=describe_failure(attempt), programmingLanguage="PYTHON"
            )
        if attempt.dates:
            facets[_DATES_FACET] = _build_dates_facet(
                {
                    day: {"outcome": each.outcome, "rows": each.rows.model_dump(by_alias=True, exclude_none=True)}
                    for day, each in attempt.dates.items()
                }
            )
        end = self.event_of(kind, attempt.ended_at or attempt.started_at, run_uuid, facets, job)
        end["inputs"], end["outputs"] = self.inputs(attempt), self.outputs(attempt)
        return [start, end]

    def event_of(self, kind: str, moment: str, run_uuid: str, facets: Facet, job: Facet) -> Event:
        """Return an event of the run or of something that belongs to it."""
        return {
            "eventType": kind,
            "eventTime": moment,
            "run": {"runId": run_uuid, "facets": facets},
            "job": job,
            "inputs": [],
            "outputs": [],
            "producer": PRODUCER,
            "schemaURL": _EVENT_SCHEMA,
        }

    def uuid(self, *parts: str) -> str:
        """Return the UUID of the run, or of one of its attempts."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join([PRODUCER.rpartition(":")[0], self.namespace, self.run_id, *parts])))

    def parent(self) -> Facet:
        """Return the parent facet of what belongs to the run."""
        job = {"namespace": self.namespace, "name": _JOB}
        return _build_facet("ParentRunFacet", run={"runId": self.uuid()}, job=job)

    def nominal_time(self) -> Facet:
        """Return the nominalTime facet: the business dates as the shop's calendar days."""
        first, last = self.record.run_date, self.record.until or self.record.run_date
        zone = ZoneInfo(self.settings.timezone)
        start, end = (datetime.combine(each, time(), zone).isoformat() for each in (first, last + timedelta(days=1)))
        return _build_facet("NominalTimeRunFacet", nominalStartTime=start, nominalEndTime=end)

    def job(self, name: str, kind: str, attempt: Optional[AttemptRecord] = None) -> Facet:
        """Return a job with the address of its executed notebook."""
        facets = {"jobType": _build_facet("JobTypeJobFacet", processingType="BATCH", integration="DAYBOOK", jobType=kind)}
        if attempt and attempt.notebook:
            facets["sourceCodeLocation"] = _build_facet(
                "SourceCodeLocationJobFacet",
                type="git",
                url=_to_uri(f"{self.settings.archive}/{run_folder(self.run_id)}/{attempt.notebook.file}"),
                path=f"notebooks/{notebook_name(attempt.stage)}.ipynb",
                **({"version": attempt.code.commit} if attempt.code.commit else {}),
            )
        return {"namespace": self.namespace, "name": name, "facets": facets}

    def inputs(self, attempt: AttemptRecord) -> list[Facet]:
        """Return the files and tables that an attempt read, with the results of their rules."""
        found: dict[str, Facet] = {}
        for file in attempt.inputs:
            named = {"rowCount": file.rows, "size": file.size}
            statistics = {name: number for name, number in named.items() if number is not None}
            found[f"landing/{file.file}"] = {
                **dataset_identifier(f"{self.settings.landing}/{file.file}"),
                "facets": {"version": _build_facet("DatasetVersionDatasetFacet", datasetVersion=file.sha256)},
                "inputFacets": {"inputStatistics": _build_facet("InputStatisticsInputDatasetFacet", **statistics)},
            }
        for table, version in _list_external_tables(attempt.tables_read):
            found[table] = {**self.dataset(table, version), "inputFacets": {}}
        by_table: dict[str, list[RuleResult]] = {}
        for rule in attempt.details.rules:
            by_table.setdefault(self._resolve_table(rule.table, {*found, *attempt.tables_written}), []).append(rule)
        for table, rules in by_table.items():
            entry = found.setdefault(table, {**self.dataset(table, None), "inputFacets": {}})
            entry["inputFacets"]["dataQualityAssertions"] = _build_facet(
                "DataQualityAssertionsDatasetFacet", assertions=[_build_assertion(rule) for rule in rules]
            )
        return list(found.values())

    def _resolve_table(self, name: str, tables: Collection[str]) -> str:
        """Return the table that a rule was checked on. Rules of the validate stage name an entity of bronze."""
        if "." not in name:
            return f"bronze.{name}"
        last = name.split(".")[1]
        return next((each for each in (name, f"candidate.{last}", f"silver.{last}", f"gold.{last}") if each in tables), name)

    def outputs(self, attempt: AttemptRecord) -> list[Facet]:
        """Return the tables that an attempt wrote, with row counts and column lineage."""
        found = []
        for table, version in _list_external_tables(attempt.tables_written):
            layer, _, name = table.partition(".")
            entry = self.dataset(table, version)
            merged = attempt.details.merged.get(table)
            rows = merged.rows if merged and layer == "silver" else None
            if layer in ("candidate", "gold"):
                rows = self.candidates.get(f"gold.{name}")
            entry["outputFacets"] = {}
            if rows is not None:
                entry["outputFacets"]["outputStatistics"] = _build_facet("OutputStatisticsOutputDatasetFacet", rowCount=rows)
            columns = self.column_lineage(table)
            if columns is not None:
                entry["facets"]["columnLineage"] = columns
            found.append(entry)
        return found

    def dataset(self, table: str, version: Optional[int]) -> Facet:
        """Return a table as a data set, with its address, name, columns and version."""
        name = dataset_identifier(table_uri(self.settings, table))
        identifier = {"namespace": self.namespace, "name": table, "type": "TABLE"}
        facets = {
            "symlinks": _build_facet("SymlinksDatasetFacet", identifiers=[identifier]),
            "dataSource": _build_facet("DatasourceDatasetFacet", name="delta", uri=_to_uri(self.settings.lake)),
        }
        if version is not None:
            facets["version"] = _build_facet("DatasetVersionDatasetFacet", datasetVersion=str(version))
        contract = self.contracts.get(table.replace("candidate.", "gold."))
        if contract is not None:
            fields = [
                {"name": each.name, "type": each.physicalType, "description": each.description} for each in contract.properties
            ]
            facets["schema"] = _build_facet("SchemaDatasetFacet", fields=fields)
        return {**name, "facets": facets}

    def column_lineage(self, table: str) -> Optional[Facet]:
        """Return the columnLineage facet of a table that the run wrote; None without lineage in the record."""
        layer, _, name = table.partition(".")
        if layer == "gold" and table in self.contracts:
            # Publishing copies the columns of the candidate.
            fields = {
                column: {"inputFields": [self._field(f"candidate.{name}.{column}", ["IDENTITY"])]}
                for column in self.contracts[table].columns
            }
            return _build_facet("ColumnLineageDatasetFacet", fields=fields)
        known = self.lineage.get(f"gold.{name}" if layer == "candidate" else table)
        if known is None:
            return None
        masked = self.contracts[table].pseudonyms if table in self.contracts else []
        fields = {
            column: {"inputFields": self._fields(sources, masking=find_column(masked, column) is not None)}
            for column, sources in known["columns"].items()
        }
        return _build_facet("ColumnLineageDatasetFacet", fields=fields, dataset=self._fields(known["rows"]))

    def _fields(self, sources: Mapping[str, Iterable[str]], *, masking: bool = False) -> list[Facet]:
        # A name without a layer is a list that a stage has computed, not a data set.
        return [
            self._field(source, kinds, masking=masking) for source, kinds in sources.items() if "." in split_column(source)[0]
        ]

    def _field(self, source: str, kinds: Iterable[str], *, masking: bool = False) -> Facet:
        table, column = split_column(source)
        transformations = [
            {
                "type": "DIRECT" if kind in DIRECT_KINDS else "INDIRECT",
                "subtype": kind,
                "masking": masking and kind in DIRECT_KINDS and table.startswith("bronze."),
            }
            for kind in kinds
        ]
        place = dataset_identifier(table_uri(self.settings, table))
        return {**place, "field": column, "transformations": transformations}


def _build_facet(schema: str, **content: Any) -> Facet:
    version = _FACET_VERSIONS[schema]
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{version}/{schema}.json#/$defs/{schema}", **content}


def _build_dates_facet(dates: Mapping[str, Facet]) -> Facet:
    return {"_producer": PRODUCER, "_schemaURL": _RUN_FACET_SCHEMA, "dates": dates}


def _build_assertion(rule: RuleResult) -> Facet:
    """Return a rule's result, without the sample keys of failing rows that the record has."""
    return {
        "assertion": rule.rule,
        # A rule can tolerate some failing rows.
        "success": not rule.failing or rule.outcome == "within limits",
        "severity": {"warning": "warn"}.get(rule.severity, rule.severity),
        "actual": rule.measured or f"{rule.failing} of {rule.checked} rows fail",
    }


def _list_external_tables(versions: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(table, version) for table, version in sorted(versions.items()) if not table.startswith(_INTERNAL_TABLES)]


def _to_uri(location: str) -> str:
    return location if "://" in location else "file://" + urllib.request.pathname2url(location)
