"""Test which parameters are refused when a stage is opened."""

from __future__ import annotations

import pytest

from daybook.errors import NotebookError
from tests.sessions import Session

BEGIN = "from daybook.notebook import begin\nstage = begin('ingest', env=env, run_date=run_date)"


@pytest.mark.parametrize(("name", "refused"), [("run_date", False), ("run_dat", True)])
def test_begin_refuses_undeclared_parameters(session: Session, name: str, refused: bool) -> None:
    for cell in ("env = 'local'\nrun_date = '2025-11-30'", f"# Parameters\n{name} = '2025-11-29'\n"):
        session.shell.run_cell(cell, store_history=True).raise_error()
    if not refused:
        assert session.value(f"{BEGIN}\nstage.day") == "2025-11-29"
        return
    with pytest.raises(NotebookError, match=r"no parameter 'run_dat' \(did you mean 'run_date'\?\); its parameters are: env, "):
        raise session.error(BEGIN)
