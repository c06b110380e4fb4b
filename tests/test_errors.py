"""Errors: what a script learns from an exit code, and what a notebook shows."""

from __future__ import annotations

import pytest

from daybook import errors
from daybook.errors import DaybookError, UsageError, is_permanent

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, DaybookError)]


def test_exit_codes_are_those_a_script_relies_on():
    assert (errors.EXIT_OK, errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_REJECTED) == (0, 1, 2, 3)


@pytest.mark.parametrize("error", CLASSES)
def test_a_wrong_request_ends_with_2_and_a_fault_with_1(error):
    assert error.exit_code == (2 if issubclass(error, UsageError) else 1)


@pytest.mark.parametrize("error", CLASSES)
def test_a_notebook_shows_the_sentence_without_frames(error):
    assert error("The lake is dry.")._render_traceback_() == [f"{error.__name__}: The lake is dry."]


PERMANENT = {
    "UsageError",
    "ParamsError",
    "ContractError",
    "SourceError",
    "SqlError",
    "LineageError",
    "NotebookError",
    "StateMachineError",
    "MissingFileError",
    "FormatError",
    "LimitError",
    "LinkError",
}


@pytest.mark.parametrize("error", CLASSES)
def test_permanent_classes_are_these(error):
    assert is_permanent(error.__name__) is error.permanent is (error.__name__ in PERMANENT)


@pytest.mark.parametrize("name", [None, "", "ValueError", "RuntimeError", "OSError", "is_permanent", "EXIT_USAGE", "Optional"])
def test_any_other_name_is_a_fault(name):
    assert not is_permanent(name)


def test_landing_errors_are_told_apart():
    for error in (errors.MissingFileError, errors.FormatError, errors.LimitError):
        assert issubclass(error, errors.LandingError)
    assert not errors.LandingError.permanent
