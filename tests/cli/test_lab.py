"""Test which handlers `daybook lab` serves."""

from __future__ import annotations

import sys

import jupyter_server
import pytest
from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp

from daybook.cli import main
from daybook.settings import project_root


@pytest.mark.parametrize(("version", "served"), [((2, 18, 2), False), ((2, 20, 0), True), ((3, 0, 0), True)])
def test_lab_converts_no_notebooks_before_the_fix(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], served: bool
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(ServerApp, "default_services", ServerApp.default_services)
    monkeypatch.setattr(jupyter_server, "version_info", version)
    monkeypatch.setattr(LabApp, "launch_instance", given.append)
    monkeypatch.setattr(sys, "argv", ["daybook", "lab"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, given) == (0, [[str(project_root() / "notebooks")]])
    assert ("nbconvert" in ServerApp.default_services) is served
    assert {"contents", "kernels", "files"} <= set(ServerApp.default_services)


def test_lab_is_a_usage_error_without_jupyterlab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", None)
    monkeypatch.setattr(sys, "argv", ["daybook", "lab"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith("JupyterLab is not installed; run `make setup`, or install daybook[dev].")
