"""Stage 2: every landed row is judged by its source's rules; what breaks one goes to quarantine with the reason.

Here: judging, quarantine, and the gate on too many rejected rows. Also the accepted rows, typed, for the next stage. Not
here: how rules read as SQL (``daybook.quality``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from daybook.errors import StageError
from daybook.notebook.display import Listing
from daybook.notebook.stage import Stage
from daybook.quality import RuleResult, Verdict, check, landing_rules, reasons_sql, refuse_share
from daybook.sources.files import TECHNICAL
from daybook.sources.mapping import quote, typed_sql

VALIDATED_DATES = "control.validated_dates"
"""The business dates whose rows in bronze have passed the gate, a partition each."""


@dataclass
class Judgement:
    """What validation found, by entity. Rows landed = accepted + rejected + duplicates, always."""

    landed: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    rules: list[RuleResult] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def listing(self) -> Listing:
        """A row an entity."""
        return Listing(
            ["entity", "landed", "accepted", "rejected", "exact duplicates", "rejected share"],
            [
                (
                    name,
                    landed,
                    self.accepted[name],
                    self.rejected[name],
                    self.duplicates[name],
                    _share(self.rejected[name], landed),
                )
                for name, landed in self.landed.items()
            ],
            percent=["rejected share"],
        )

    @property
    def broken(self) -> Listing:
        """A row a rule that something breaks."""
        found = sorted((each for each in self.rules if each.failing), key=lambda each: -each.failing)
        return Listing(
            ["entity", "rule", "checked", "failing", "share"],
            [(each.table, each.rule, each.checked, each.failing, each.share) for each in found],
            percent=["share"],
        )


def judge(stage: Stage) -> Judgement:
    """Judge the date's rows of every entity. They can be queried as ``judged.<entity>``: the landed columns, ``_copy`` (2 and
    up for exact duplicates) and ``_reasons`` (empty for a good row)."""
    require_landed(stage)
    judgement = Judgement()
    for name, entity in stage.source.entities.items():
        rules = landing_rules(stage.source, entity)
        judged = f"judged.{name}"
        rows = stage.engine.arrow(
            f"SELECT * EXCLUDE (run_date), {copy_sql(stage, name)} AS _copy, {reasons_sql(rules)} AS _reasons "
            f"FROM bronze.{name} WHERE run_date = DATE '{stage.day}'"
        )
        stage.engine.register(judged, rows)
        judgement.rules += check(stage.engine, f"(SELECT * FROM {judged} WHERE _copy = 1)", rules, name)
        landed, rejected, copies = stage.engine.one(
            "SELECT count(*), count(*) FILTER (WHERE _copy = 1 AND _reasons <> ''), count(*) FILTER (WHERE _copy > 1) "
            f"FROM {judged}"
        )
        judgement.landed[name], judgement.rejected[name], judgement.duplicates[name] = landed, rejected, copies
        (judgement.accepted[name],) = stage.engine.one(f"SELECT count(*) FROM {judged} WHERE _copy = 1 AND _reasons = ''")
        settings = stage.settings
        judgement.verdict.reasons += refuse_share(
            name, landed, rejected, most=settings.max_rejected_share, tolerated=settings.tolerated_rejected_rows
        ).reasons
    return judgement


def quarantine(stage: Stage, judgement: Judgement) -> None:
    """Put the rejected rows aside, an atomic commit an entity, and end the stage with the gate's answer."""
    for name in judgement.landed:
        rejected = stage.engine.arrow(
            f"SELECT * EXCLUDE (_copy) FROM judged.{name} WHERE _copy = 1 AND _reasons <> '' ORDER BY _source_file, _row_number"
        )
        stage.lake.replace_partition(f"quarantine.{name}", rejected, stage.run_date)
    landed, accepted = sum(judgement.landed.values()), sum(judgement.accepted.values())
    rejected_rows, copies = sum(judgement.rejected.values()), sum(judgement.duplicates.values())
    if landed != accepted + rejected_rows + copies:
        raise StageError(
            f"{landed} rows landed but {accepted} + {rejected_rows} + {copies} are accounted for; a rule is at fault."
        )
    stage.details["rejected_by_reason"] = {
        f"{each.table}: {each.rule}": each.failing for each in judgement.rules if each.failing
    }
    passed = pa.table({"accepted": pa.array([accepted] if judgement.verdict.passed else [], pa.int64())})
    stage.lake.replace_partition(VALIDATED_DATES, passed, stage.run_date)
    if judgement.verdict.passed:
        stage.succeed(rows_in=landed, rows_out=accepted, rejected=rejected_rows, duplicates=copies)
    else:
        stage.reject(judgement.verdict.reasons, rows_in=landed, rejected=rejected_rows)


def accept(stage: Stage) -> Listing:
    """Make the accepted rows of the date queryable under the bare names of their entities, cleaned and typed."""
    require_landed(stage)
    if stage.run_date not in stage.lake.partitions(VALIDATED_DATES):
        raise StageError(f"{stage.day} has not passed validation; run 2_validate for that date first.")
    counts = []
    for name, entity in stage.source.entities.items():
        typed = ", ".join(
            f"{typed_sql(column, spec, stage.source.null_values)} AS {quote(column)}" for column, spec in entity.columns.items()
        )
        rows = stage.engine.arrow(
            f"SELECT {typed}, _source_file, _row_number FROM ("
            f"SELECT *, {copy_sql(stage, name)} AS _copy FROM bronze.{name} WHERE run_date = DATE '{stage.day}') AS landed "
            f"WHERE _copy = 1 AND NOT EXISTS (SELECT 1 FROM quarantine.{name} AS q WHERE q.run_date = DATE '{stage.day}' "
            "AND q._source_file = landed._source_file AND q._row_number = landed._row_number) "
            "ORDER BY _source_file, _row_number"
        )
        stage.engine.register(name, rows)
        counts.append((name, rows.num_rows))
    return Listing(["entity", "accepted rows"], counts)


def copy_sql(stage: Stage, entity: str) -> str:
    """SQL that numbers rows equal in every landed column, from 1 in the order they stand in the files."""
    if stage.source.entities[entity].duplicates == "keep":
        return "1"
    technical = {*TECHNICAL, "_run_id", "run_date"} - {"_problem", "_raw"}
    columns = [name for name in stage.engine.query(f"SELECT * FROM bronze.{entity} LIMIT 0").columns if name not in technical]
    listed = ", ".join(quote(name) for name in columns)
    return f"row_number() OVER (PARTITION BY {listed} ORDER BY _source_file, _row_number)"


def require_landed(stage: Stage) -> None:
    """Raise where a date has not been ingested: working on no rows would look like a day without trade."""
    if stage.run_date not in stage.lake.partitions(f"bronze.{stage.source.primary}"):
        raise StageError(f"{stage.day} is not in bronze; run 1_ingest for that date first.")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
