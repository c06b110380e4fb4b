"""Command that checks the health of a deployment on AWS: doctor."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from dataclasses import asdict

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import print_json, print_table
from daybook.errors import EXIT_FAILED

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "refused": "cyan"}


@app.command()
def doctor(env: EnvOption, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Check the health of a deployment on AWS, and show what to do."""
    from daybook.deploy.doctor.examine import run_checks
    from daybook.execution.aws.account import connect

    settings = load_command_settings(env, set_)
    region = settings.deployment.region if settings.deployment else None
    checks = list(run_checks(connect(region, f"daybook doctor --env {env}"), settings))
    if as_json:
        # "said" is the earlier name of "message".
        print_json([{**asdict(each), "said": each.message} for each in checks])
    else:
        rows = [((each.state, _STYLES[each.state]), each.name, each.message, each.remedy) for each in checks]
        print_table(["", "", "", "what to do"], rows)
        counts = {state: sum(each.state == state for each in checks) for state in _STYLES}
        print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if any(each.state == "failed" for each in checks):
        raise typer.Exit(EXIT_FAILED)
