"""Commands on personal data: rekey, erase."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings, refuse_while_running
from daybook.cli.options import EnvOption, JsonOption, SetOption, WhileRunningOption, YesOption
from daybook.cli.terminal import DONE, NOTE, print_json, print_line, require_confirmation
from daybook.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from daybook.privacy.erasure import ErasureResult

_NOT_PROVED = ("Not proved:", "red")


@app.command()
def rekey(
    env: EnvOption = "local", set_: SetOption = None, yes: YesOption = False, while_running: WhileRunningOption = False
) -> None:
    """Replace the key of pseudonyms and all stored pseudonyms; finish an interrupted rekey."""
    from daybook.privacy.rekey import rekey as rekey_lake

    settings = load_command_settings(env, set_)
    refuse_while_running(settings, "rekey", while_running)
    consequence = f"All pseudonyms in {settings.lake} are replaced, and older versions of the tables are removed."
    require_confirmation(f"{consequence} Continue?", yes)
    done = rekey_lake(settings.lake, settings.pii_key, settings.env)
    print_line(
        f"{len(done.tables)} tables rewritten from generation {done.old_generation} of the key to {done.new_generation}, "
        f"{done.files_removed:,} old files removed: {', '.join(done.tables) or 'no pseudonym is stored yet'}."
    )
    print_line(f"Back up {settings.pii_key} now: without its newest key, new pseudonyms do not match stored ones.")


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
        consequence = f"All data of the person in {settings.lake} and the older versions of its tables are removed permanently."
        require_confirmation(f"{consequence} Continue?", yes)

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
        print_line("Already erased; no new data of the person was found.")
    for table, rows in sorted(planned.rows.items()):
        print_line(f"  {rows:>7,} rows of {table}")
    for column, rows in sorted(planned.free_text_rows.items()):
        print_line(f"  {rows:>7,} rows with the person in {column}")
    for file, what in sorted(planned.proof.matches.items()) if notes else ():
        print_line(NOTE, f" {file} contains the person ({what}); this command does not change it.")
    for file, problem in sorted(planned.proof.unsearched.items()) if notes else ():
        print_line(
            NOTE,
            f" {file} cannot be searched ({problem}); restore or remove it first, because the person's values are unknown "
            "afterwards.",
        )


def _print_done(done: "ErasureResult") -> None:
    if done.files_removed:
        print_line(f"{done.files_removed:,} files removed: candidates, older versions and log entries.")
    if done.stale_dates:
        print_line(f"The next run computes {done.stale_dates} order dates again.")
    for file in done.landing:
        print_line(NOTE, f" this file of the source still contains the person: {file}")
    for file, problem in sorted(done.unreadable.items()):
        print_line(
            NOTE, f" this file of the source could not be searched to its end and may contain the person: {file} ({problem})"
        )
    searched = f"{done.proof.files:,} files"
    if done.proof.matches:
        print_line(_NOT_PROVED, f" {len(done.proof.matches)} of {searched} still contain the person.")
    for file, what in sorted(done.proof.matches.items()):
        print_line(f"  {file} ({what})")
    for file, problem in sorted(done.proof.unsearched.items()):
        print_line(f"  {file} could not be searched ({problem})")
    if done.proof.matches:
        print_line("Remove or repair them, then run the same command again. For free text in tables, add --also TABLE.COLUMN.")
    elif done.is_verified:
        print_line(DONE, f" {searched} searched, nothing found. Record: {done.record}")
    else:
        number = len(done.proof.unsearched) + len(done.unreadable)
        print_line(
            _NOT_PROVED,
            f" {searched} were read and nothing was found, but {number} could not be searched. Restore or remove them, then "
            f"run the same command again. Record: {done.record}",
        )
