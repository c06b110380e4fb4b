"""Commands are imported once they are called: help and lists come at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from daybook.cli.commands import COMMANDS, load_commands

HEAVY = (
    "pyarrow",
    "numpy",
    "pandas",
    "duckdb",
    "deltalake",
    "boto3",
    "botocore",
    "awswrangler",
    "IPython",
    "nbformat",
    "papermill",
)
"""Packages that take longer to import than a list takes to print."""


def imported(command: str, home: Path) -> set[str]:
    """The packages that a command has imported by its end."""
    code = (
        f"import sys; sys.argv = ['daybook', *{command.split()!r}]\n"
        "from daybook.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('IMPORTED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"DAYBOOK_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("IMPORTED ", 1)[1].split())


def test_help_imports_no_command_and_no_settings(tmp_path: Path) -> None:
    found = imported("--help", tmp_path)
    assert not {each for each in found if each.split(".")[0] in (*HEAVY, "pydantic", "yaml", "obstore", "psutil", "sqlglot")}
    assert not {f"daybook.cli.{module}" for module, _ in COMMANDS.values()} & found


@pytest.mark.parametrize("command", ["runs", "runs --json"])
def test_lists_of_runs_import_nothing_that_works_on_tables(tmp_path: Path, command: str) -> None:
    assert not imported(command, tmp_path) & set(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_module_that_is_imported_for_it(name: str) -> None:
    command = load_commands(name).commands[name]
    assert command.callback is not None or isinstance(command, click.Group)
    assert command.help


def test_help_lists_every_command_there_is() -> None:
    assert set(load_commands().commands) == set(COMMANDS)


def test_lines_of_help_are_shown_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daybook.cli import main; main()", "--help"], capture_output=True, text=True, timeout=60
    )
    listed = done.stdout.split("Commands:\n")[1].splitlines()
    assert [tuple(line.split(None, 1)) for line in listed] == [(name, line) for name, (_, line) in COMMANDS.items()]


def test_a_name_that_is_nearly_one_is_answered_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daybook.cli import main; main()", "staus"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "'status'" in done.stderr
