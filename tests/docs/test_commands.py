"""Test commands in the pages: the reference is complete, and every example of a command line is valid."""

from __future__ import annotations

import re
import subprocess

import click
import pytest

from daybook.deploy.templates import read_templates
from daybook.errors import UsageError, is_permanent
from daybook.settings import Settings
from tests.docs.cli_reference import PAGE, commands, reference
from tests.docs.command_lines import APP, Example, command_of, examples, parse, unknown_parts
from tests.docs.pages import DOCS, PROSE, ROOT, Page

DAYBOOK = [each for each in examples() if each.words[0] == "daybook"]
MAKE = [each for each in examples() if each.words[0] == "make"]


def test_reference_equals_the_help_of_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`, which writes docs/cli.md"


def test_reference_has_every_command_and_option() -> None:
    text = Page(PAGE).text
    for name, command in commands(APP):
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        options = [option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts]
        assert section, name
        assert [option for option in options if option not in section] == [], name


def test_every_command_has_an_example() -> None:
    shown = {command_of(each.words[1:])[0] for each in DAYBOOK}
    leaves = {name for name, command in commands(APP) if not isinstance(command, click.Group)}
    assert leaves - shown == set()


@pytest.mark.parametrize("example", DAYBOOK, ids=str)
def test_daybook_example_parses(example: Example) -> None:
    parse(example)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("daybook fly", "No such command 'fly'"),
        ("daybook quarantine fly", "No such command 'fly'"),
        ("daybook run --speed 9", "No such option: --speed"),
        ("daybook run --date 2025-02-30", "'2025-02-30' is not a business date"),
        ("daybook backfill 2025-11-01", "Missing argument 'LAST'"),
        ("daybook catch-up --limit many", "'many' is not a valid integer"),
        ("daybook run --set speed=9", "unknown keys: speed"),
        ("daybook run --env nowhere", "There is no params/nowhere.yaml"),
    ],
)
def test_wrong_example_is_found(line: str, message: str) -> None:
    with pytest.raises((click.UsageError, UsageError)) as error:
        parse(Example(Page(ROOT / "README.md"), line, tuple(line.split())))
    shown = error.value.format_message() if isinstance(error.value, click.UsageError) else str(error.value)
    assert message in shown


@pytest.mark.parametrize("page", PROSE, ids=str)
def test_inline_commands_exist(page: Page) -> None:
    named = [code for code in page.inline_code if code.startswith("daybook ")]
    assert [wrong for code in named for wrong in unknown_parts(code)] == []


@pytest.mark.parametrize("example", MAKE, ids=str)
def test_make_example_has_a_target(example: Example) -> None:
    planned = subprocess.run(["make", "--dry-run", *example.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr


def test_settings_page_lists_every_key_and_default() -> None:
    rows = [line for line in Page(DOCS / "settings.md").text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]
    shown = {name: default for name, default, *_ in (cell for cell in cells if len(cell) == 3)}
    assert shown == {
        name: "required" if field.is_required() else "none" if field.default is None else str(field.default).lower()
        for name, field in Settings.model_fields.items()
        if not field.exclude
    }


def test_failures_page_tells_which_are_permanent() -> None:
    section = Page(DOCS / "operations.md").text.partition("## Failures\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = {name: row.endswith("| permanent |") for row in rows for name in re.findall(r"`(\w+Error)`", row)}
    assert told == {name: is_permanent(name) for name in told}
    assert len(told) >= 14


def test_deploy_page_names_parameters_of_the_templates() -> None:
    section = Page(DOCS / "aws" / "deploy.md").text.partition("| parameter |")[2].partition("\n\n")[0]
    named = {
        name for line in section.splitlines() for name in re.findall(r"`([A-Z]\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named
    assert named - {name for template in read_templates() for name in template.parameters} == set()
