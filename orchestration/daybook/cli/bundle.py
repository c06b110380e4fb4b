"""Command that builds the bundle of jobs on AWS: bundle."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import app
from daybook.cli.options import JsonOption
from daybook.cli.terminal import format_megabytes, print_json
from daybook.settings import daybook_home


@app.command()
def bundle(
    out: Annotated[Optional[Path], typer.Option("--out", help="The output folder.", metavar="DIR")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the file that jobs on AWS Glue Python shell run from."""
    from daybook.deploy.bundle import build_bundle
    from daybook.deploy.exclude import exclusion_reason
    from daybook.records.fingerprint import code_version

    built = build_bundle((out or daybook_home() / "bundle").resolve())
    if as_json:
        print_json(asdict(built))
        return
    print(
        f"{built.path}: {format_megabytes(built.size)}, unpacked {format_megabytes(built.unpacked)} "
        f"in {built.files:,} files, {built.packages} packages"
    )
    print(f"sha256 {built.sha256}")
    for kind, size in built.left_out.items():
        print(f"left out {format_megabytes(size)}: {exclusion_reason(kind)}")
    if code_version()["dirty"]:
        print("The bundle contains uncommitted changes of the checkout.")
    if built.compiled_by is None:
        print("Not compiled, because Python 3.9 is not installed here: every job compiles the modules that it imports.")
