"""Test exit codes, permanence and notebook display of errors."""

from __future__ import annotations

import pytest

from daybook import errors
from daybook.errors import DaybookError, UsageError, is_permanent

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, DaybookError)]


def test_exit_codes():
    assert (errors.EXIT_OK, errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_REJECTED) == (0, 1, 2, 3)


@pytest.mark.parametrize("error", CLASSES)
def test_usage_errors_exit_2_and_faults_exit_1(error):
    assert error.exit_code == (2 if issubclass(error, UsageError) else 1)


@pytest.mark.parametrize("error", CLASSES)
def test_notebook_shows_message_without_traceback(error):
    assert error("The lake is dry.")._render_traceback_() == [f"{error.__name__}: The lake is dry."]


PERMANENT = {
    "UsageError",
    "ParamsError",
    "ContractError",
    "DatesFailedError",
    "SourceError",
    "SqlError",
    "LineageError",
    "NotebookError",
    "CaseError",
    "StateMachineError",
    "MissingFileError",
    "FormatError",
    "LimitError",
    "LinkError",
}


@pytest.mark.parametrize("error", CLASSES)
def test_permanent_classes(error):
    assert is_permanent(error.__name__) is error.permanent is (error.__name__ in PERMANENT)


@pytest.mark.parametrize("name", [None, "", "ValueError", "RuntimeError", "OSError", "is_permanent", "EXIT_USAGE", "Optional"])
def test_unknown_error_names_are_not_permanent(name):
    assert not is_permanent(name)


def test_landing_errors_have_subclasses():
    for error in (errors.MissingFileError, errors.FormatError, errors.LimitError):
        assert issubclass(error, errors.LandingError)
    assert not errors.LandingError.permanent
