"""Commands on personal data: rekey, erase."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook.cli.app import (
    EnvOption,
    JsonOption,
    SetOption,
    WhileRunningOption,
    YesOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    print_json,
    refuse_while_running,
    require_confirmation,
)
from daybook.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from daybook.privacy.erasure import ErasureResult


@app.command()
def rekey(
    env: EnvOption = "local", set_: SetOption = None, yes: YesOption = False, while_running: WhileRunningOption = False
) -> None:
    """Replace the key of pseudonyms and all stored pseudonyms; finish an interrupted rekey."""
    from daybook.privacy.rekey import rekey as rekey_lake

    settings = load_command_settings(env, set_)
    refuse_while_running(settings, "rekey", while_running)
    require_confirmation(f"All pseudonyms in {settings.lake} are replaced, and older versions of the tables are removed.", yes)
    done = rekey_lake(settings.lake, settings.pii_key, settings.env)
    console.print(
        f"{len(done.tables)} tables rewritten from generation {done.old_generation} of the key to {done.new_generation}, "
        f"{done.files_removed:,} old files removed: {escape_markup(', '.join(done.tables)) or 'no pseudonym is stored yet'}.",
        soft_wrap=True,
    )
    console.print(
        f"Back up {escape_markup(settings.pii_key)} now: without its newest key, new pseudonyms do not match stored ones."
    )


@app.command()
def erase(
    customer: Annotated[Optional[str], typer.Option("--customer", help="Id of the person in the source.", metavar="ID")] = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat all earlier erasures.")] = False,
    also: Annotated[
        Optional[list[str]],
        typer.Option(
            "--also", help="Replace the person's values in a column of free text; repeatable.", metavar="TABLE.COLUMN"
        ),
    ] = None,
    why: Annotated[
        str, typer.Option("--why", help="The reason, for the record, without names of people.", metavar="TEXT")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    env: EnvOption = "local",
    set_: SetOption = None,
    yes: YesOption = False,
    while_running: WhileRunningOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a person from all tables and their old versions, and prove it by a search of all files."""
    from daybook.notebook.stale_dates import mark_stale_dates
    from daybook.privacy.erasure import ErasureResult, erase_again
    from daybook.privacy.erasure import erase as erase_person

    if (customer is None or not customer.strip()) != again:
        raise UsageError("Give --customer ID, or --again to repeat all earlier erasures.")
    if again and also:
        raise UsageError("--also needs --customer ID: the values of people who were erased before are no longer known.")
    if as_json and not (yes or dry_run):
        raise UsageError("--json cannot ask for confirmation; add --yes or --dry-run.")
    settings = load_command_settings(env, set_)
    if not dry_run:
        refuse_while_running(settings, "erase", while_running)

    def confirm(planned: ErasureResult) -> None:
        if dry_run and as_json:
            print_json({"dry_run": True, **planned.to_preview()})
        elif not as_json:
            _print_changes(planned, notes=not yes)
        if dry_run:
            raise typer.Exit
        require_confirmation(
            f"All data of the person in {settings.lake} and the older versions of its tables are removed permanently.", yes
        )

    if customer is None:
        done = erase_again(settings, why, mark_stale_dates, confirm)
    else:
        done = erase_person(settings, customer.strip(), why, mark_stale_dates, also or (), confirm)
    if as_json:
        print_json({"dry_run": False, **done.to_record(), "found": done.proof.matches, "record": done.record})
    else:
        _print_done(done)
    if not done.is_verified:
        raise typer.Exit(EXIT_FAILED)


def _print_changes(planned: "ErasureResult", *, notes: bool) -> None:
    if planned.erased_before and not planned.rows and not planned.free_text_rows:
        console.print("Already erased; no new data of the person was found.")
    for table, rows in sorted(planned.rows.items()):
        console.print(f"  {rows:>7,} rows of {escape_markup(table)}", soft_wrap=True)
    for column, rows in sorted(planned.free_text_rows.items()):
        console.print(f"  {rows:>7,} rows with the person in {escape_markup(column)}", soft_wrap=True)
    for file, what in sorted(planned.proof.matches.items()) if notes else ():
        console.print(
            f"[yellow]Note:[/] {escape_markup(file)} contains the person ({escape_markup(what)}); "
            "this command does not change it.",
            soft_wrap=True,
        )
    for file, problem in sorted(planned.proof.unsearched.items()) if notes else ():
        console.print(
            f"[yellow]Note:[/] {escape_markup(file)} cannot be searched ({escape_markup(problem)}); restore or remove it "
            "first, because the person's values are unknown afterwards.",
            soft_wrap=True,
        )


def _print_done(done: "ErasureResult") -> None:
    if done.files_removed:
        console.print(f"{done.files_removed:,} files removed: candidates, older versions and log entries.")
    if done.stale_dates:
        console.print(f"The next run computes {done.stale_dates} order dates again.")
    for file in done.landing:
        console.print(
            f"[yellow]Note:[/] this file of the source still contains the person: {escape_markup(file)}", soft_wrap=True
        )
    for file, problem in sorted(done.unreadable.items()):
        console.print(
            f"[yellow]Note:[/] this file of the source could not be searched to its end and may contain the person: "
            f"{escape_markup(file)} ({escape_markup(problem)})",
            soft_wrap=True,
        )
    searched = f"{done.proof.files:,} files"
    if done.proof.matches:
        console.print(f"[red]Not proved:[/] {len(done.proof.matches)} of {searched} still contain the person.")
    for file, what in sorted(done.proof.matches.items()):
        console.print(f"  {escape_markup(file)} ({escape_markup(what)})", soft_wrap=True)
    for file, problem in sorted(done.proof.unsearched.items()):
        console.print(f"  {escape_markup(file)} could not be searched ({escape_markup(problem)})", soft_wrap=True)
    if done.proof.matches:
        console.print(
            "Remove or repair them, then run the same command again. For free text in tables, add --also TABLE.COLUMN."
        )
        return
    record = f"Record: {escape_markup(done.record or '')}"
    if done.is_verified:
        console.print(f"[green]✓[/] {searched} searched, nothing found. {record}", soft_wrap=True)
        return
    number = len(done.proof.unsearched) + len(done.unreadable)
    console.print(
        f"[red]Not proved:[/] {searched} were read and nothing was found, but {number} could not be searched. "
        f"Restore or remove them, then run the same command again. {record}",
        soft_wrap=True,
    )
