"""Commands on personal data: rekey, erase.

Here: those, and asking before they change anything. Not here: what they do (``daybook.rekeying``, ``daybook.erasure``).
"""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

from typing import Annotated, Optional

import typer

from daybook.cli.app import (
    Env,
    Set,
    WhileRunning,
    Yes,
    app,
    ask,
    console,
    escaped,
    refuse_while_running,
    settings_of,
)
from daybook.errors import EXIT_FAILED, UsageError


@app.command()
def rekey(env: Env = "local", set_: Set = None, yes: Yes = False, while_running: WhileRunning = False) -> None:
    """Make a new key for pseudonyms and carry all stored ones on to it; finish a rekey that was cut off."""
    from daybook.rekeying import rekey as carry_on

    settings = settings_of(env, set_)
    refuse_while_running(settings, "rekey", while_running)
    ask(f"Every pseudonym in {settings.lake} becomes another, and older versions of the tables go.", yes)
    done = carry_on(settings.lake, settings.pii_key, settings.env)
    console.print(
        f"{len(done.tables)} tables brought from generation {done.before} of the key to {done.after}, "
        f"{done.files_removed:,} old files removed: {escaped(', '.join(done.tables)) or 'no pseudonym is stored yet'}.",
        soft_wrap=True,
    )
    console.print(f"Back up {escaped(settings.pii_key)} now: without its newest key, pseudonyms of new data fit no stored one.")


@app.command()
def erase(
    customer: Annotated[Optional[str], typer.Option("--customer", help="The source's id of the person.", metavar="ID")] = None,
    again: Annotated[bool, typer.Option("--again", help="Everybody erased before, once more.")] = False,
    why: Annotated[str, typer.Option("--why", help="For the record; name nobody in it.", metavar="TEXT")] = "",
    env: Env = "local",
    set_: Set = None,
    yes: Yes = False,
    while_running: WhileRunning = False,
) -> None:
    """Remove a person from every layer and every old version of the tables, and prove it by searching all files."""
    from daybook.erasure import erase as erase_person
    from daybook.erasure import erase_again
    from daybook.notebook.dates import note_stale_dates

    if (customer is None or not customer.strip()) != again:
        raise UsageError("Give --customer ID, or --again for everybody who was erased before.")
    settings = settings_of(env, set_)
    refuse_while_running(settings, "erase", while_running)
    ask(f"What the lake {settings.lake} holds of the person goes for good, and older versions of the tables with it.", yes)
    done = (
        erase_again(settings, why, note_stale_dates)
        if customer is None
        else erase_person(settings, customer.strip(), why, note_stale_dates)
    )
    if done.before and not done.rows:
        console.print("Erased before; nothing has come back.")
    for table, rows in sorted(done.rows.items()):
        console.print(f"  {rows:>7,} rows of {escaped(table)}", soft_wrap=True)
    if done.files_removed:
        console.print(f"{done.files_removed:,} files of candidates and of older versions and log entries removed.")
    if done.stale_dates:
        console.print(f"{done.stale_dates} order dates have new figures with the next run, which computes them again.")
    for file in done.landing:
        console.print(f"[yellow]Note:[/] the source's file still holds the person: {escaped(file)}", soft_wrap=True)
    for file in done.unread:
        console.print(
            f"[yellow]Note:[/] the source's file may hold the person; it cannot be unpacked to its end: {escaped(file)}",
            soft_wrap=True,
        )
    if not done.proof.holds:
        console.print(f"[red]Not proved:[/] {len(done.proof.found)} of {done.proof.files:,} files still hold the person.")
        for file, what in sorted(done.proof.found.items()):
            console.print(f"  {escaped(file)} ({what})", soft_wrap=True)
        console.print("Remove or mend them, then give the same command again.")
        raise typer.Exit(EXIT_FAILED)
    console.print(f"[green]✓[/] {done.proof.files:,} files searched, nothing found. Record: {done.record}", soft_wrap=True)
