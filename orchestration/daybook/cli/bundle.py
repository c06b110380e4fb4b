"""The command that builds what jobs on AWS run from: bundle."""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import JsonOption, app, print_json
from daybook.settings import daybook_home


@app.command()
def bundle(
    out: Annotated[Optional[Path], typer.Option("--out", help="The folder to put it in.", metavar="DIR")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the one file that jobs on AWS Glue Python shell run from."""
    from daybook.deploy.bundle import build_bundle
    from daybook.deploy.exclude import exclusion_reason
    from daybook.records.fingerprint import code_version

    built = build_bundle((out or daybook_home() / "bundle").resolve())
    if as_json:
        print_json(asdict(built))
        return
    print(
        f"{built.path}: {_format_megabytes(built.size)}, unpacked {_format_megabytes(built.unpacked)} "
        f"in {built.files:,} files, {built.packages} packages"
    )
    print(f"sha256 {built.sha256}")
    for kind, size in built.left_out.items():
        print(f"left out {_format_megabytes(size)}: {exclusion_reason(kind)}")
    if code_version()["dirty"]:
        print("The checkout has changes that are not committed, and so has the bundle.")
    if built.compiled_by is None:
        print("Not compiled, since there is no Python 3.9 on this machine: every job will compile what it imports.")


def _format_megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
