"""The command that says whether a deployment on AWS is well: doctor."""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

from dataclasses import asdict

import typer

from daybook.cli.app import AsJson, Env, Set, app, console, escaped, new_table, print_json, settings_of
from daybook.errors import EXIT_FAILED

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "refused": "cyan"}


@app.command()
def doctor(env: Env, set_: Set = None, as_json: AsJson = False) -> None:
    """Look whether a deployment on AWS is well, and say what to do."""
    from daybook.deploy.doctor.examine import examine
    from daybook.execution.aws.account import connect

    settings = settings_of(env, set_)
    region = settings.deployment.region if settings.deployment else None
    checks = list(examine(connect(region, f"daybook doctor --env {env}"), settings))
    if as_json:
        print_json([asdict(each) for each in checks])
    else:
        table = new_table("", "", "", "what to do")
        for each in checks:
            state = f"[{_STYLES[each.state]}]{each.state}[/]"
            table.add_row(state, escaped(each.name), escaped(each.said), escaped(each.remedy))
        console.print(table)
        counts = {state: sum(each.state == state for each in checks) for state in _STYLES}
        print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if any(each.state == "failed" for each in checks):
        raise typer.Exit(EXIT_FAILED)
