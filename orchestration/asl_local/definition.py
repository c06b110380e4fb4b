"""State machine files: what one is once read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, Union

from asl_local.errors import StateMachineError
from asl_local.model import Finding, TaskState, Workflow
from asl_local.parser import parse_machine


@dataclass(frozen=True)
class StateMachine:
    """A valid state machine.

    Attributes
    ----------
    name : str
        The file's name up to its first dot: ``daily`` for ``daily.asl.json``.
    timeout_seconds : int, optional
        How long an execution may take.
    digest : str
        SHA-256 of the definition, the same for any layout of the same JSON.
    """

    name: str
    path: Path
    workflow: Workflow
    timeout_seconds: Optional[int]
    digest: str

    @classmethod
    def load(cls, path: Union[str, Path]) -> StateMachine:
        """Read and check the file at ``path``; ``StateMachineError`` names file, state, field and what is allowed."""
        machine, findings = read_definition(Path(path))
        if findings or machine is None:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            raise StateMachineError(f"{path}: {findings[0]}{more}")
        return machine

    def resources(self) -> FrozenSet[str]:
        """Return the Resource ARNs its Task states name."""
        return frozenset(state.resource for state in self.workflow.walk() if isinstance(state, TaskState))


def read_definition(path: Path) -> Tuple[Optional[StateMachine], List[Finding]]:
    """Return the machine in the file at ``path`` and all that is wrong with it; with findings it must not be run."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except (OSError, ValueError) as fault:
        return None, [Finding("", f"the file cannot be read as JSON: {fault}")]
    workflow, findings = parse_machine(raw)
    if workflow is None:
        return None, findings
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return StateMachine(path.name.split(".")[0], path, workflow, raw.get("TimeoutSeconds"), digest), findings


def _reject_duplicate_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object; keep one of them")
    return value
