"""Test that a command's module is imported only when the command is called, so that help and lists are fast."""

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
"""Packages whose import takes longer than printing a list."""


def imported(command: str, home: Path) -> set[str]:
    """Return the modules that a command has imported when it ends."""
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


def test_help_imports_neither_commands_nor_settings(tmp_path: Path) -> None:
    found = imported("--help", tmp_path)
    assert not {each for each in found if each.split(".")[0] in (*HEAVY, "pydantic", "yaml", "obstore", "psutil", "sqlglot")}
    assert not {f"daybook.cli.{module}" for module, _ in COMMANDS.values()} & found


@pytest.mark.parametrize("command", ["runs", "runs --json"])
def test_lists_of_runs_import_no_heavy_packages(tmp_path: Path, command: str) -> None:
    assert not imported(command, tmp_path) & set(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_defined_in_its_listed_module(name: str) -> None:
    command = load_commands(name).commands[name]
    assert command.callback is not None or isinstance(command, click.Group)
    assert command.help


def test_help_lists_every_command() -> None:
    assert set(load_commands().commands) == set(COMMANDS)


def test_help_lines_are_not_truncated(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daybook.cli import main; main()", "--help"], capture_output=True, text=True, timeout=60
    )
    listed = done.stdout.split("Commands:\n")[1].splitlines()
    assert [tuple(line.split(None, 1)) for line in listed] == [(name, line) for name, (_, line) in COMMANDS.items()]


def test_misspelled_command_gets_a_suggestion(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daybook.cli import main; main()", "staus"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "'status'" in done.stderr
