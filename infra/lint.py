"""Check templates and state machines with cfn-lint and checkov.

`make lint-infra` runs it in an environment made from ``lint.lock``.
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
            # cfn-lint checks definitions inside templates, not files in S3.
            definition = _replace_expressions(json.loads(path.read_text("utf-8")))
            machine = {"RoleArn": "arn:aws:iam::123456789012:role/any", "Definition": definition}
            wrapped = {"Resources": {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": machine}}}
            (Path(folder) / path.name).write_text(json.dumps(wrapped, indent=2), "utf-8")
        machines = sorted(str(path) for path in Path(folder).iterdir())
        schemas = subprocess.run([TOOLS / "cfn-lint", "--", *templates, *machines], check=False)  # noqa: S603
    # Downloads are not needed.
    how = ["--framework", "cloudformation", "--quiet", "--compact", "--skip-download"]
    security = subprocess.run([TOOLS / "checkov", "--directory", INFRA, *how], check=False)  # noqa: S603
    return schemas.returncode or security.returncode


def _replace_expressions(states: Any) -> Any:
    """Replace expressions in MaxConcurrency by a number.

    Step Functions accepts JSONata expressions there (developer guide, Map state), but cfn-lint's schema only numbers.
    """
    if isinstance(states, list):
        return [_replace_expressions(each) for each in states]
    if not isinstance(states, dict):
        return states
    found = {key: _replace_expressions(each) for key, each in states.items()}
    if found.get("Type") == "Map" and isinstance(found.get("MaxConcurrency"), str):
        found["MaxConcurrency"] = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
