"""Define the options that several commands have."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import Annotated, Optional

import typer

EnvOption = Annotated[str, typer.Option("--env", help="The deployment: a file in params/.", metavar="NAME")]
SetOption = Annotated[
    Optional[list[str]], typer.Option("--set", help="Change a key of the params file; repeatable.", metavar="KEY=VALUE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
NoFollowOption = Annotated[bool, typer.Option("--no-follow", help="On AWS: start the execution and do not wait for its end.")]
AllowMissingOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="Drop the rows of optional files that are no longer in landing, instead of keeping them."
    ),
]
WhileRunningOption = Annotated[bool, typer.Option("--while-running", help="Proceed even if a run is in progress.")]
