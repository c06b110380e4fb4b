"""The job script: one stage of one run. AWS Glue Python shell starts it, and so does the local runner, with the same arguments.

    python glue_job.py --stage ingest --env local --run_date 2025-11-30 --run_id daily-2025-11-30-1 --overrides '{}'

It ends with exit code 0 when the stage has an outcome (SUCCEEDED, SKIPPED, REJECTED), which is left in the archive for the
state machine; a fault ends it with a message and exit code 1, and the state machine tries again. What it
prints holds no personal data.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

# Beside this script lies the package, in a checkout and in the bundle alike.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from daybook.archive import first_line
from daybook.errors import DaybookError
from daybook.execution import run_stage
from daybook.pii.redaction import Redactor
from daybook.stages import STAGES
from daybook.storage import trouble, unwritable


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--stage", required=True, choices=STAGES)
    parser.add_argument("--env", required=True)
    parser.add_argument("--run_date", required=True)
    parser.add_argument("--run_id", required=True)
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--failure", help="JSON of what the state machine caught; for notify only")
    arguments, _ = parser.parse_known_args()  # Glue adds arguments of its own.
    extra = {} if arguments.failure is None else {"failure": arguments.failure}
    try:
        record = run_stage(
            arguments.stage,
            env=arguments.env,
            run_date=arguments.run_date,
            run_id=arguments.run_id,
            overrides=arguments.overrides,
            extra=extra,
        )
    except DaybookError as error:
        sys.exit(f"{type(error).__name__}: {Redactor().text(str(error))}")
    except OSError as error:
        if trouble(error) is None:
            sys.exit(_traced(error))
        sys.exit(f"StorageError: {Redactor().text(str(unwritable(error.filename or 'A file', error)))}")
    except Exception as error:  # noqa: BLE001 (what Python would print may hold a row, and the log is for everybody)
        sys.exit(_traced(error))
    if record["outcome"] == "FAILED":
        failure = record["failure"]
        sys.exit(f"{failure['exception'] or 'KernelDied'}: {first_line(failure['message'])}")


def _traced(error: Exception) -> str:
    """Where an unforeseen fault arose, and its class. Its message stays unsaid: nobody has searched it for personal data."""
    places = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{places}{type(error).__name__}: a fault in Daybook itself, in the lines above; its message is withheld"


if __name__ == "__main__":
    main()
