"""What a person has answered for: a run that was started to publish what a gate had refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from daybook.notebook.context import Stage
from daybook.quality import GateResult


@dataclass(frozen=True)
class Approval:
    """Who lets what pass, and why. ``waived`` names findings as ``Finding.about`` does."""

    of: str
    by: str
    why: str
    waived: tuple[str, ...]

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Approval:
        return cls(record["of"], record["by"], record["why"], tuple(record["waived"]))

    def to_record(self) -> dict[str, Any]:
        """The approval as records hold it."""
        return {"of": self.of, "by": self.by, "why": self.why, "waived": list(self.waived)}


def load_approval(stage: Stage) -> Optional[Approval]:
    """The approval that this run was started with, if it was."""
    found = stage.started.get("approval")
    return Approval.from_record(found) if found else None


def apply_approval(stage: Stage, verdict: GateResult) -> GateResult:
    """The gate's answer under the run's approval; what is let through is said in the record and in warnings."""
    approval = load_approval(stage)
    stage.details["refused"] = [{"about": each.finding_id, "waivable": each.waivable} for each in verdict.findings]
    if approval is None or not verdict.findings:
        return verdict
    decided = verdict.waive(approval.waived)
    said = [f"approved by {approval.by} ({approval.why}): {each.text}" for each in decided.waived]
    stage.details["warnings"] = [*stage.details.get("warnings", []), *said]
    stage.details["waived"] = [each.finding_id for each in decided.waived]
    return decided
