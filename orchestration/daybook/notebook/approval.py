"""Apply the approval of a run that a person started to publish what a gate had rejected."""

from __future__ import annotations

from typing import Optional

from daybook.notebook.context import Stage
from daybook.quality.gates import GateResult
from daybook.records.models import Approval


def load_approval(stage: Stage) -> Optional[Approval]:
    """Return the approval that this run was started with, or None."""
    return stage.started.approval if stage.started else None


def apply_approval(stage: Stage, verdict: GateResult) -> GateResult:
    """Return the gate's result under the run's approval; waived findings are recorded, with a warning each."""
    approval = load_approval(stage)
    stage.details["refused"] = [{"about": each.finding_id, "waivable": each.waivable} for each in verdict.findings]
    if approval is None or not verdict.findings:
        return verdict
    decided = verdict.waive(approval.waived)
    waived = [f"approved by {approval.by} ({approval.why}): {each.text}" for each in decided.waived]
    stage.details["warnings"] = [*stage.details.get("warnings", []), *waived]
    stage.details["waived"] = [each.finding_id for each in decided.waived]
    return decided
