"""Provide a fixture that calls the ``daybook`` command in this process."""

from __future__ import annotations

import sys
from typing import Callable

import pytest

from daybook.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command, answers its question, and returns exit code, output and errors."""

    def called(*arguments: str, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", *arguments])
        monkeypatch.setattr("typer.confirm", lambda text, **_: answer == "y")
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return called
