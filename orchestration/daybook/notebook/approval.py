"""Apply the approval of a run that a person started to publish what a gate had rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from daybook.notebook.context import Stage
from daybook.quality import GateResult


@dataclass(frozen=True)
class Approval:
    """Who waived which findings of the run ``of``, and why. ``waived`` has values of ``Finding.finding_id``."""

    of: str
    by: str
    why: str
    waived: tuple[str, ...]

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Approval:
        return cls(record["of"], record["by"], record["why"], tuple(record["waived"]))

    def to_record(self) -> dict[str, Any]:
        """Return the approval as records store it."""
        return {"of": self.of, "by": self.by, "why": self.why, "waived": list(self.waived)}


def load_approval(stage: Stage) -> Optional[Approval]:
    """Return the approval that this run was started with, or None."""
    found = stage.started.get("approval")
    return Approval.from_record(found) if found else None


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
