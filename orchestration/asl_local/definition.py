"""Load state machine files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, Union

from asl_local.errors import StateMachineError
from asl_local.model import Definition, Finding, TaskState, parse_definition


@dataclass(frozen=True)
class StateMachine:
    """A valid state machine.

    Attributes
    ----------
    name : str
        The file name up to its first dot: ``daily`` for ``daily.asl.json``.
    digest : str
        SHA-256 of the definition. It does not depend on the layout of the JSON.
    """

    name: str
    path: Path
    definition: Definition
    digest: str

    @classmethod
    def load(cls, path: Union[str, Path]) -> StateMachine:
        """Read and check the file at ``path``.

        Raises
        ------
        StateMachineError
            The file is invalid. The message names file, state, field and the valid values.
        """
        machine, findings = read_definition(Path(path))
        if findings or machine is None:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            raise StateMachineError(f"{path}: {findings[0]}{more}")
        return machine

    def resources(self) -> FrozenSet[str]:
        """Return the Resource ARNs of all Task states."""
        return frozenset(state.resource for _, state in self.definition.iter_states() if isinstance(state, TaskState))


def read_definition(path: Path) -> Tuple[Optional[StateMachine], List[Finding]]:
    """Return the machine in the file at ``path`` and all errors in it. A machine with findings must not be run."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except (OSError, ValueError) as error:
        return None, [Finding("", f"the file cannot be read as JSON: {error}")]
    definition, findings = parse_definition(raw)
    if definition is None:
        return None, findings
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return StateMachine(path.name.split(".")[0], path, definition, digest), findings


def _reject_duplicate_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object; keep one of them")
    return value
