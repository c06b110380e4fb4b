"""A notebook session in this process: IPython with Daybook's extension, over a lake of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from daybook.notebook import stage as stages


class Session:
    """Cells run one after the other, as Jupyter does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.outputs: list[dict[str, Any]] = []
        self.printed = ""

    def run(self, cell: str) -> ExecutionResult:
        """Run a cell; what it displayed and printed is kept until the next."""
        with capture_output() as captured:
            result = self.shell.run_cell(cell)
        self.outputs = [each.data for each in captured.outputs]
        self.printed = captured.stdout
        return result

    def begin(self) -> None:
        """Run the cell that opens the demo shop's ingest stage."""
        self.value("from daybook.notebook import begin\nstage = begin('ingest', env='local', run_date='2025-11-30')")

    def value(self, cell: str) -> Any:
        """What a cell that must not fail shows as its value."""
        result = self.run(cell)
        result.raise_error()
        return result.result

    def error(self, cell: str) -> BaseException:
        """What a cell raises."""
        result = self.run(cell)
        found = result.error_in_exec or result.error_before_exec
        assert found is not None, "the cell did not fail"
        return found


@pytest.fixture
def session(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session with the extension loaded and no stage open."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "daybook")
    yield Session(shell)
    InteractiveShell.clear_instance()


@pytest.fixture
def opened(session: Session) -> Session:
    """A session with the ingest stage of the demo shop open."""
    session.begin()
    return session
