"""Test private homes and sockets of kernels, and redirection of their output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest
import zmq

from daybook.execution import kernel
from daybook.execution.kernel import (
    KernelClient,
    isolate_kernel_home,
    kernel_options,
    read_printed_output,
    redirect_output,
    remove_scratch,
)


def test_output_of_process_and_children_is_redirected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with redirect_output(tmp_path / "printed.txt"):
        os.write(1, b"below Python\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'another process')"], check=True)
    os.write(1, b"after\n")

    kept = capfd.readouterr()
    assert (kept.out, kept.err) == ("after\n", "")
    printed = read_printed_output(tmp_path / "printed.txt")
    assert [part in printed for part in ("below Python", "another process")] == [True, True]


def test_output_is_restored_after_exception(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), redirect_output(tmp_path / "printed.txt"):
        raise ZeroDivisionError
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_long_printed_output_keeps_head_and_tail(tmp_path: Path) -> None:
    file = tmp_path / "printed.txt"
    file.write_text("".join(f"line {number:06d} of what was printed\n" for number in range(50_000)))
    lines = read_printed_output(file).splitlines()
    assert (lines[0], lines[-1]) == ("line 000000 of what was printed", "line 049999 of what was printed")
    assert sum("left out: " in line for line in lines) == 1
    assert sum(line.endswith(" of what was printed") for line in lines) == len(lines) - 2
    assert 990_000 < len(read_printed_output(file)) <= 1_000_000


def test_missing_output_file_is_empty_text(tmp_path: Path) -> None:
    assert read_printed_output(tmp_path / "nowhere.txt") == ""


def test_kernel_home_is_in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", "mine")
    monkeypatch.delenv("JUPYTER_RUNTIME_DIR", raising=False)
    with isolate_kernel_home(tmp_path):
        assert os.environ["IPYTHONDIR"] == str(tmp_path / "ipython")
        assert os.environ["JUPYTER_RUNTIME_DIR"] == str(tmp_path / "runtime")
    assert os.environ["IPYTHONDIR"] == "mine"
    assert "JUPYTER_RUNTIME_DIR" not in os.environ


def test_kernel_gets_import_paths_of_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.zip").write_bytes(b"")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "modules.zip"), str(tmp_path / "nowhere.zip"), ""])
    with isolate_kernel_home(tmp_path):
        assert os.environ["PYTHONPATH"] == os.pathsep.join([str(tmp_path), str(tmp_path / "modules.zip")])


# -- sockets ------------------------------------------------------------------------------------------------------------

LOOK = """
import json, os
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
print(json.dumps([app.transport, app.ip, get_ipython().history_manager.enabled]))
"""


def run_kernel(scratch: Path) -> list[str]:
    """Run a kernel and return its transport, socket path and whether it keeps a history."""
    scratch.mkdir(parents=True)
    named = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOK)], metadata=named), scratch / "in.ipynb")
    with kernel_options(scratch) as options:
        files = [str(scratch / name) for name in ("in.ipynb", "out.ipynb")]
        papermill.execute_notebook(*files, kernel_name="python3", progress_bar=False, cwd=str(scratch), **options)
    (output,) = nbformat.read(scratch / "out.ipynb", as_version=4).cells[0].outputs
    return list(json.loads(output.text))


@pytest.mark.slow
def test_concurrent_kernels_have_private_sockets(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(run_kernel, [tmp_path / ("d" * (number * 60)) / "scratch" for number in range(1, 5)]))
    assert [each[0] for each in told] == ["ipc"] * 4
    assert len({each[1] for each in told}) == 4
    assert all(not Path(each[1]).parent.exists() for each in told)
    # Runs do not need a history of inputs.
    assert [each[2] for each in told] == [False] * 4


@pytest.mark.slow
def test_kernel_uses_ports_if_paths_are_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_MAX_SOCKET_PATH_BYTES", 10)
    assert run_kernel(tmp_path / "scratch")[0] == "tcp"


def test_sockets_are_private(tmp_path: Path) -> None:
    places = []
    for scratch in (tmp_path / "s", tmp_path / ("d" * 120)):
        scratch.mkdir()
        with kernel_options(scratch) as options:
            place = Path(options["config"]["KernelManager"]["ip"]).parent
            assert len(str(place / "k-5")) <= kernel._MAX_SOCKET_PATH_BYTES
            assert place.stat().st_mode & 0o777 == 0o700
            places.append(place)
        assert not place.exists()
    assert places[0].parent == tmp_path / "s"
    assert tmp_path not in places[1].parents


def test_remove_scratch_removes_sockets_of_killed_attempt(tmp_path: Path) -> None:
    scratch = tmp_path / ("d" * 120)
    scratch.mkdir()
    begun = kernel_options(scratch)
    place = Path(begun.__enter__()["config"]["KernelManager"]["ip"]).parent
    (place / "k-1").touch()
    remove_scratch(scratch)
    assert (place.exists(), scratch.exists()) == (False, False)
    begun.__exit__(None, None, None)
    remove_scratch(tmp_path / "never was")


def test_iopub_queue_is_unlimited() -> None:
    client = KernelClient(ip="127.0.0.1", iopub_port=1)
    socket = client.connect_iopub()
    try:
        assert socket.get(zmq.RCVHWM) == 0
    finally:
        socket.close(0)
