"""Commands that create and remove a deployment on AWS: deploy, destroy."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Callable, Optional

import typer

from daybook.cli.app import app, load_command_settings, parse_assignments
from daybook.cli.options import EnvOption, SetOption, YesOption
from daybook.cli.terminal import format_megabytes
from daybook.errors import EXIT_FAILED, UsageError
from daybook.settings import Settings, daybook_home, parse_run_date

if TYPE_CHECKING:
    from daybook.deploy.apply import Step
    from daybook.deploy.change_sets import Event, EventCallback
    from daybook.deploy.release import Release
    from daybook.execution.aws.account import Account

_ParameterOption = Annotated[
    Optional[list[str]],
    typer.Option("--parameter", help="A parameter of the templates in infra/; repeatable.", metavar="NAME=VALUE"),
]
_StackOption = Annotated[
    Optional[list[str]], typer.Option("--stack", help="Only this stack (a file of infra/); repeatable.", metavar="NAME")
]


@app.command()
def deploy(
    env: EnvOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: YesOption = False,
    parameter: _ParameterOption = None,
    stack: _StackOption = None,
    bundle: Annotated[
        Optional[Path],
        typer.Option("--bundle", help="Use this bundle instead of building one.", metavar="FILE", dir_okay=False),
    ] = None,
    smoke: Annotated[
        Optional[date],
        typer.Option("--smoke", help="Run this business date on AWS afterwards.", parser=parse_run_date, metavar="YYYY-MM-DD"),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Deploy this checkout to an AWS account: bundle, state machines, stacks."""
    from daybook.deploy import apply
    from daybook.deploy.change_sets import Stacks
    from daybook.deploy.templates import STACKS, load_parameter_values, read_template, read_templates, require_known_parameters

    settings = load_command_settings(env, set_)
    given = parse_assignments("--parameter NAME=VALUE", parameter)
    require_known_parameters({**given, **(settings.deployment.parameters if settings.deployment else {})}, read_templates())
    for name in stack or []:
        if name not in STACKS:
            raise UsageError(f"--stack {name} is not one of infra/: {', '.join(STACKS)}.")
    templates = [read_template(name) for name in STACKS if not stack or name in stack]
    values = load_parameter_values(settings, given)
    account = _connect(settings, "deploy")
    stacks = Stacks(account, env)
    release = None
    if any(each.name == "pipeline" for each in templates):
        # Check the parameters before the bundle is built, which takes much longer.
        apply.require_valid_parameters(templates, {**values, **_PLACEHOLDER_RELEASE}, stacks)
        release = _build_release(values, bundle)
        values.update(release.parameters())
    steps = apply.plan_deployment(stacks, templates, values, dry_run=dry_run)
    undone = list(steps)
    try:
        for step in steps:
            _print_step(step)
        if dry_run:
            print("Nothing was changed (--dry-run).")
            return
        _require_consent(steps, yes)
        for step in sorted(steps, key=lambda each: not each.precedes_release):
            if release and not step.precedes_release:
                _upload_release(account, release)
                release = None
            undone.remove(step)
            if not step.is_unchanged:
                print(f"{step.state.name} ...", flush=True)
            apply.apply_step(stacks, step, values, _print_events())
    finally:
        apply.delete_change_sets(stacks, undone)
    changed = [each.state.name for each in steps if not each.is_unchanged]
    print(f"Deployed: {', '.join(changed)}." if changed else "Nothing to change.")
    if smoke:
        _run_smoke_test(account, settings, smoke)


_PLACEHOLDER_RELEASE = {"CodePrefix": "releases/unbuilt/", "BundleUri": "s3://unbuilt/bundles/unbuilt.zip"}
"""Placeholder of the release in the first check of parameters; it is never deployed."""


def _connect(settings: Settings, command: str) -> "Account":
    from daybook.execution.aws.account import connect

    region = settings.deployment.region if settings.deployment else None
    account = connect(region, f"daybook {command} --env {settings.env}")
    print(f"Account {account.number}, region {account.region}, as {account.caller}")
    return account


def _build_release(values: dict[str, str], bundle: Optional[Path]) -> "Release":
    from daybook.deploy.bundle import build_bundle
    from daybook.deploy.release import plan_release

    if "CodeBucket" not in values:
        raise UsageError("CodeBucket, the bucket of releases, is not set; set it under `deployment.parameters` in params/.")
    if bundle is None:
        print("Building the bundle ...", flush=True)
        bundle = build_bundle(daybook_home() / "bundle").path
    elif not bundle.is_file():
        raise UsageError(f"--bundle {bundle} does not exist; build one with `daybook bundle`.")
    release = plan_release(values["CodeBucket"], bundle)
    print(f"Release {release.prefix}, bundle {release.bundle.key}")
    return release


def _print_step(step: "Step") -> None:
    if step.is_unchanged:
        print(f"{step.state.name}: nothing to change")
        return
    if not step.state.exists:
        print(f"{step.state.name}: new")
    elif not step.changes:
        print(f"{step.state.name}: outputs or tags only")
    else:
        print(f"{step.state.name}:")
    for change in step.changes:
        print(f"  {change.describe()}")


def _require_consent(steps: Iterable["Step"], yes: bool) -> None:
    """Ask before resources are replaced or deleted; without a terminal, require ``--yes``."""
    dangerous = [change for step in steps for change in step.changes if change.is_destructive]
    if not dangerous or yes:
        return
    lost = ", ".join(each.logical_id for each in dangerous if each.holds_data and not each.is_retained)
    names = ", ".join(each.logical_id for each in dangerous)
    _confirm(f"Replaced or deleted: {names}{f'; with their data: {lost}' if lost else ''}.")


def _confirm(consequence: str, word: str = "") -> None:
    """Ask for a yes, or for ``word`` to be typed. Raises ``UsageError`` without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(f"{consequence} Nothing was changed; add --yes to confirm.")
    if word:
        agreed = typer.prompt(f"{consequence} Type {word} to continue", default="", show_default=False) == word
    else:
        agreed = typer.confirm(f"{consequence} Continue?")
    if not agreed:
        print("Nothing was changed.")
        raise typer.Exit(EXIT_FAILED)


def _start_timer() -> Callable[[str], None]:
    """Return a function that prints a line after the seconds since this call."""
    started = time.monotonic()
    return lambda text: print(f"  {time.monotonic() - started:5.0f} s  {text}", flush=True)


def _print_events() -> "EventCallback":
    print_after = _start_timer()

    def print_event(event: "Event") -> None:
        if not event.status.endswith("_IN_PROGRESS"):  # Only the end of each change is printed.
            reason = f": {event.reason}" if event.is_failure else ""
            print_after(f"{event.logical_id} ({event.kind}) {event.status}{reason}")

    return print_event


def _upload_release(account: "Account", release: "Release") -> None:
    from daybook.deploy.release import upload_file

    for item in release.items:
        print_after = _start_timer()
        if upload_file(account, release.bucket, item):
            print_after(f"s3://{release.bucket}/{item.key}, {format_megabytes(item.path.stat().st_size)}")


def _run_smoke_test(account: "Account", settings: Settings, day: date) -> None:
    from daybook.deploy.smoke_test import run_smoke_test
    from daybook.execution.aws.executions import Executions

    print(f"Running {day} ...", flush=True)
    ended = run_smoke_test(Executions(settings, account), settings, day, _start_timer())
    reason = ": ".join(filter(None, (ended.error, " ".join((ended.cause or "").split()))))
    print(f"{ended.name} ended {ended.status}{f': {reason}' if reason else ''}")
    if ended.status != "SUCCEEDED":
        raise typer.Exit(EXIT_FAILED)


@app.command()
def destroy(
    env: EnvOption,
    data: Annotated[
        bool, typer.Option("--data", help="Also remove the tables, the archive and their keys, permanently.")
    ] = False,
    yes: YesOption = False,
    set_: SetOption = None,
) -> None:
    """Remove the jobs, schedules and alarms of a deployment; keep data and keys unless --data is given."""
    from daybook.deploy.change_sets import Stacks
    from daybook.deploy.destroy import list_retained, remove_data
    from daybook.deploy.templates import RETAINED_STACKS, STACKS, read_template

    settings = load_command_settings(env, set_)
    account = _connect(settings, "destroy")
    stacks = Stacks(account, env)
    templates = [read_template(name) for name in reversed(STACKS) if name not in RETAINED_STACKS]
    there = [each for each in templates if stacks.describe_stack(each).status not in ("", "DELETE_COMPLETE")]
    names = [each.stack_name(env) for each in there]
    held = list_retained(account, env)
    if not there and not (data and held):
        print("Nothing to remove.")
    elif not yes:
        removed = [*names, *(each.name for each in held if data)]
        _confirm(f"This removes {', '.join(removed)}{' PERMANENTLY' if data else ''}.", word=env if data else "")
    for template in there:
        print(f"{template.stack_name(env)} ...", flush=True)
        stacks.delete(template, _print_events())
    if data and held:
        for line in remove_data(account, stacks, held):
            print(f"  {line}", flush=True)
    left = list_retained(account, env)
    for each in left:
        print(f"kept: {each.describe()}")
    if left:
        monthly = sum(each.monthly_usd for each in left)
        print(f"They cost about {monthly:,.2f} USD a month by list prices; `daybook deploy --env {env}` uses them again.")
