"""Collect files of SQL cases as tests of pytest, one test a case.

A ``conftest.py`` beside the files enables it: ``from daybook.testing.pytest_plugin import pytest_collect_file``. It is no
plugin with an entry point, because each other run of pytest in the same environment would load that.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

from daybook.errors import DaybookError
from daybook.testing.case import Case, read_cases

if TYPE_CHECKING:
    from daybook.testing.runner import CaseResult, CaseRunner


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Optional[CaseFile]:
    """Collect each YAML file beside the ``conftest.py``."""
    return CaseFile.from_parent(parent, path=file_path) if file_path.suffix == ".yaml" else None


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterator[CaseItem]:
        for case in read_cases(self.path):
            yield CaseItem.from_parent(self, name=case.name, case=case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Return the sentence of an error in the file instead of a traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, DaybookError) else super().repr_failure(excinfo)


class CaseItem(pytest.Item):
    """A case as a test."""

    def __init__(self, *, case: Case, **named: Any) -> None:
        super().__init__(**named)
        self.case = case

    def runtest(self) -> None:
        result = _runner().run(self.case)
        if not result.passed:
            raise CaseFailure(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the differences instead of a traceback."""
        if isinstance(excinfo.value, CaseFailure):
            return f"{self.case.table} by {self.case.notebook}\n{excinfo.value.result}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.case.table}: {self.name}"


class CaseFailure(Exception):
    """A case whose result is not as expected."""

    def __init__(self, result: CaseResult) -> None:
        super().__init__(str(result))
        self.result = result


@cache
def _runner() -> CaseRunner:
    # Collecting does not need the engine.
    from daybook.testing.runner import CaseRunner

    return CaseRunner()
