"""What a person has answered for: a run that was started to publish what a gate had refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from daybook.notebook.context import Stage
from daybook.quality import Verdict


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


def approval_of(stage: Stage) -> Optional[Approval]:
    """The approval that this run was started with, if it was."""
    found = stage.started.get("approval")
    return Approval.from_record(found) if found else None


def decide(stage: Stage, verdict: Verdict) -> Verdict:
    """The gate's answer under the run's approval; what is let through is said in the record and in warnings."""
    approval = approval_of(stage)
    stage.details["refused"] = [{"about": each.about, "waivable": each.waivable} for each in verdict.findings]
    if approval is None or not verdict.findings:
        return verdict
    decided = verdict.approved(approval.waived)
    said = [f"approved by {approval.by} ({approval.why}): {each.text}" for each in decided.waived]
    stage.details["warnings"] = [*stage.details.get("warnings", []), *said]
    stage.details["waived"] = [each.about for each in decided.waived]
    return decided
