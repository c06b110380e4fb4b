"""Run notebooks cell by cell in this process, without kernels, in a tenth of the time of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from daybook.notebook import context as stages
from daybook.notebook.parameters import notebook_path

STAGES = ("ingest", "validate", "transform", "aggregate", "quality")


class Session:
    """Run cells in sequence, like Jupyter."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.outputs: list[dict[str, Any]] = []
        self.printed = ""

    def run(self, cell: str) -> ExecutionResult:
        """Run a cell. Its outputs are kept until the next."""
        with capture_output() as captured:
            result = self.shell.run_cell(cell)
        self.outputs = [each.data for each in captured.outputs]
        self.printed = captured.stdout
        return result

    def begin(self) -> None:
        """Run the cell that opens the demo shop's ingest stage."""
        self.value("from daybook.notebook import begin\nstage = begin('ingest', env='local', run_date='2025-11-30')")

    def value(self, cell: str) -> Any:
        """Run a cell that must succeed; return its value."""
        result = self.run(cell)
        result.raise_error()
        return result.result

    def error(self, cell: str) -> BaseException:
        """Run a cell that must fail; return its exception."""
        result = self.run(cell)
        found = result.error_in_exec or result.error_before_exec
        assert found is not None, "the cell did not fail"
        return found

    def run_day(self, day: str, number: int, overrides: dict[str, str], env: str = "local") -> str:
        """Run all stages but notify like a named run, up to the last one; return its outcome."""
        return self._run_stages({"env": env, "run_date": day, "run_id": f"daily-{day}-{number}", "overrides": overrides})

    def run_range(self, first: str, last: str, number: int, overrides: dict[str, str], env: str = "local") -> str:
        """Run all stages but notify like a named run of a range of dates; return the outcome of the last one."""
        run_id = f"range-{first}-{last}-{number}"
        return self._run_stages({"env": env, "run_date": first, "until": last, "run_id": run_id, "overrides": overrides})

    def run_copy(self, day: str, overrides: dict[str, str], env: str = "local") -> str:
        """Run all stages but notify in the user's development copy; return the outcome of the last one."""
        return self._run_stages({"env": env, "run_date": day, "run_id": "", "overrides": overrides})

    def _run_stages(self, parameters: dict[str, Any]) -> str:
        """Run all stages but notify. Plots are not drawn, since no test of whole days reads them."""
        assert self.shell.display_formatter is not None
        self.shell.display_formatter.mimebundle_formatter.enabled = False
        for stage in STAGES:
            for cell in nbformat.read(notebook_path(stage), as_version=4).cells:
                if cell.cell_type == "code":
                    is_parameters = "parameters" in cell.metadata.get("tags", [])
                    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
                    self.value("\n".join([cell.source, *lines]) if is_parameters else cell.source)
            if read_outcome() != "SUCCEEDED":
                break
        return read_outcome()


def read_outcome() -> str:
    """Return the outcome of the current stage."""
    assert stages.current is not None
    return stages.current.ended


@contextmanager
def new_session() -> Iterator[Session]:
    """Open a session with Daybook's extension and without a stage."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "daybook")
    try:
        yield Session(shell)
    finally:
        InteractiveShell.clear_instance()
