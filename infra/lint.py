"""Checks of the templates and state machines by tools of others: cfn-lint's schemas, checkov's rules of security.

Here: what is handed to them, and the one thing that cfn-lint does not know. Not here: what the project itself asks of these
files (``tests/infra``, ``daybook check``). Run by `make lint-infra`, in an environment made from ``lint.lock``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

INFRA = Path(__file__).resolve().parent
TOOLS = Path(sys.executable).parent


def main() -> int:
    templates = sorted(str(path) for path in INFRA.glob("*.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((INFRA.parent / "orchestration").glob("*.asl.json")):
            # cfn-lint looks into definitions that stand in a template, and not into files in S3.
            definition = _known(json.loads(path.read_text("utf-8")))
            machine = {"RoleArn": "arn:aws:iam::123456789012:role/any", "Definition": definition}
            wrapped = {"Resources": {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": machine}}}
            (Path(folder) / path.name).write_text(json.dumps(wrapped, indent=2), "utf-8")
        machines = sorted(str(path) for path in Path(folder).iterdir())
        schemas = subprocess.run([TOOLS / "cfn-lint", "--", *templates, *machines], check=False)  # noqa: S603
    # --skip-download: nothing of what it would fetch is needed, and nothing is asked of the network.
    how = ["--framework", "cloudformation", "--quiet", "--compact", "--skip-download"]
    security = subprocess.run([TOOLS / "checkov", "--directory", INFRA, *how], check=False)  # noqa: S603
    return schemas.returncode or security.returncode


def _known(states: Any) -> Any:
    """A definition as cfn-lint's schema knows it: in JSONata, Step Functions takes an expression for a Map's MaxConcurrency
    too (its guide on the Map state); the schema has numbers only."""
    if isinstance(states, list):
        return [_known(each) for each in states]
    if not isinstance(states, dict):
        return states
    found = {key: _known(each) for key, each in states.items()}
    if found.get("Type") == "Map" and isinstance(found.get("MaxConcurrency"), str):
        found["MaxConcurrency"] = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
