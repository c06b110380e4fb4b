"""Kernels: a home and sockets of their own, and what their processes print is kept off the job's output."""

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


def test_what_this_process_and_those_it_starts_print_goes_to_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with redirect_output(tmp_path / "printed.txt"):
        os.write(1, b"below Python\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'another process')"], check=True)
    os.write(1, b"after\n")

    kept = capfd.readouterr()
    assert (kept.out, kept.err) == ("after\n", "")
    printed = read_printed_output(tmp_path / "printed.txt")
    assert [part in printed for part in ("below Python", "another process")] == [True, True]


def test_output_comes_back_after_a_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), redirect_output(tmp_path / "printed.txt"):
        raise ZeroDivisionError
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_head_and_tail_of_too_much_output_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "printed.txt"
    file.write_text("".join(f"line {number:06d} of what was printed\n" for number in range(50_000)))
    lines = read_printed_output(file).splitlines()
    assert (lines[0], lines[-1]) == ("line 000000 of what was printed", "line 049999 of what was printed")
    assert sum("left out: " in line for line in lines) == 1
    assert sum(line.endswith(" of what was printed") for line in lines) == len(lines) - 2
    assert 990_000 < len(read_printed_output(file)) <= 1_000_000


def test_nothing_printed_is_an_empty_text(tmp_path: Path) -> None:
    assert read_printed_output(tmp_path / "nowhere.txt") == ""


def test_a_kernels_home_lies_in_scratch_for_as_long_as_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", "mine")
    monkeypatch.delenv("JUPYTER_RUNTIME_DIR", raising=False)
    with isolate_kernel_home(tmp_path):
        assert os.environ["IPYTHONDIR"] == str(tmp_path / "ipython")
        assert os.environ["JUPYTER_RUNTIME_DIR"] == str(tmp_path / "runtime")
    assert os.environ["IPYTHONDIR"] == "mine"
    assert "JUPYTER_RUNTIME_DIR" not in os.environ


def test_a_kernel_is_told_of_folders_and_zip_files_that_its_job_imports_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def executed(scratch: Path) -> list[str]:
    """What a kernel says of itself."""
    scratch.mkdir(parents=True)
    named = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOK)], metadata=named), scratch / "in.ipynb")
    with kernel_options(scratch) as options:
        files = [str(scratch / name) for name in ("in.ipynb", "out.ipynb")]
        papermill.execute_notebook(*files, kernel_name="python3", progress_bar=False, cwd=str(scratch), **options)
    (output,) = nbformat.read(scratch / "out.ipynb", as_version=4).cells[0].outputs
    return list(json.loads(output.text))


@pytest.mark.slow
def test_kernels_side_by_side_each_have_sockets_of_their_own_and_leave_none(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(executed, [tmp_path / ("d" * (number * 60)) / "scratch" for number in range(1, 5)]))
    assert [each[0] for each in told] == ["ipc"] * 4
    assert len({each[1] for each in told}) == 4
    assert all(not Path(each[1]).parent.exists() for each in told)
    # A run looks nothing up in what was typed before, so no history is kept.
    assert [each[2] for each in told] == [False] * 4


@pytest.mark.slow
def test_where_no_socket_has_a_short_enough_path_kernels_are_reached_by_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_MAX_SOCKET_PATH_BYTES", 10)
    assert executed(tmp_path / "scratch")[0] == "tcp"


def test_sockets_lie_in_scratch_where_that_is_short_and_never_where_others_may_enter(tmp_path: Path) -> None:
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


def test_what_is_left_of_a_killed_attempt_goes_with_its_scratch(tmp_path: Path) -> None:
    scratch = tmp_path / ("d" * 120)
    scratch.mkdir()
    begun = kernel_options(scratch)
    place = Path(begun.__enter__()["config"]["KernelManager"]["ip"]).parent
    (place / "k-1").touch()
    remove_scratch(scratch)
    assert (place.exists(), scratch.exists()) == (False, False)
    begun.__exit__(None, None, None)
    remove_scratch(tmp_path / "never was")


def test_outputs_wait_in_an_unlimited_queue() -> None:
    client = KernelClient(ip="127.0.0.1", iopub_port=1)
    socket = client.connect_iopub()
    try:
        assert socket.get(zmq.RCVHWM) == 0
    finally:
        socket.close(0)
