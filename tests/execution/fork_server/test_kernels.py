"""Test that notebooks in forked jobs use the standby kernel and that it behaves like any other."""

from __future__ import annotations

import sys
from typing import Any, Optional

import pytest

from tests.execution.fork_server.conftest import Scripts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only"),
]

EXECUTE = """
import json, os, sys
from pathlib import Path
import nbformat, papermill
from daybook.execution.kernel import isolate_kernel_home, kernel_options, remove_scratch

def execute(*cells, options=True):
    number = len(list(Path().glob("scratch*")))
    scratch = Path(f"scratch{number}").resolve()
    scratch.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(book, scratch / "in.ipynb")
    with isolate_kernel_home(scratch), kernel_options(scratch) as chosen:
        papermill.execute_notebook(str(scratch / "in.ipynb"), str(scratch / "out.ipynb"), kernel_name="python3",
                                   progress_bar=False, cwd=str(scratch), **(chosen if options else {}))
    return [cell.outputs for cell in nbformat.read(scratch / "out.ipynb", 4).cells]

def said(outputs):
    return json.loads("".join(each.text for each in outputs if each.output_type == "stream" and each.name == "stdout"))
"""
TELL = (
    "import json, os, sys; "
    "print(json.dumps([os.getppid(), 'pandas' in sys.modules, 'a' in globals(), os.getcwd(), os.getpid()]))"
)


def in_a_job(scripts: Scripts, script: str, **how: Any) -> Any:
    return scripts.run_json(EXECUTE + script, **how)


def last_line(printed: str) -> str:
    return printed.splitlines()[-1]


@pytest.mark.parametrize("options", [True, False])
def test_notebook_uses_standby_kernel(scripts: Scripts, options: bool) -> None:
    script = f"""
        import psutil
        ready = [each.pid for each in psutil.Process().children()]
        parent, warm, _, cwd, pid = said(execute({TELL!r}, options={options})[0])
        print(json.dumps([parent == os.getpid(), warm, cwd == str(Path("scratch0").resolve()), [pid] == ready]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, "[true, true, true, true]"), printed
    # ipykernel's instructions for manual starts are not printed.
    assert "Ctrl-C" not in printed


def dedented(script: str) -> str:
    import textwrap

    return textwrap.dedent(script)


def test_second_notebook_gets_new_kernel(scripts: Scripts) -> None:
    script = f"""
        first = said(execute("a = 1", {TELL!r})[1])
        second = said(execute({TELL!r})[0])
        print(json.dumps([first[1:3], second[1:3], second[0] == os.getpid()]))
    """
    assert in_a_job(scripts, dedented(script)) == [[True, True], [False, False], True]


def test_kernels_have_different_random_numbers(scripts: Scripts) -> None:
    draw = (
        "import json, random, uuid, numpy, threading\n"
        "print(json.dumps([random.random(), float(numpy.random.rand()), str(uuid.uuid4()), threading.active_count()]))"
    )
    first, second = (in_a_job(scripts, f"print(json.dumps(said(execute({draw!r})[0])))") for _ in range(2))
    assert [one == other for one, other in zip(first, second)] == [False, False, False, True]


def test_dead_kernel_is_detected(scripts: Scripts) -> None:
    script = """
        from nbclient.exceptions import DeadKernelError
        try:
            execute("1", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        except DeadKernelError:
            print(json.dumps("dead"))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, '"dead"')


def test_kernel_that_dies_at_start_fails_at_once(scripts: Scripts) -> None:
    script = """
        from daybook.execution.fork_server import standby_kernel
        import signal
        os.kill(standby_kernel._standby_kernel[0], signal.SIGKILL)
        try:
            execute("1")
        except (RuntimeError, OSError):  # which one depends on how far the kernel is gone
            print(json.dumps("the kernel did not start"))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert code == 0, printed
    assert last_line(printed) == '"the kernel did not start"'


def test_cell_can_be_interrupted(scripts: Scripts) -> None:
    script = """
        from nbclient.client import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
        scratch = Path("scratch0").resolve(); scratch.mkdir()
        cell = nbformat.v4.new_code_cell("import threading; threading.Event().wait(300)")
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
        book = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("print(os.getppid())")], metadata=kernel)
        with isolate_kernel_home(scratch), kernel_options(scratch) as chosen:
            client = NotebookClient(book, timeout=2, interrupt_on_timeout=True, **chosen)
            try:
                client.execute()
            except CellExecutionError as error:
                print(json.dumps([error.ename, os.getpid()]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert code == 0, printed
    assert '["KeyboardInterrupt"' in last_line(printed)


def test_figures_are_shown_below_their_cell(scripts: Scripts) -> None:
    script = """
        outputs = execute("import matplotlib.pyplot as plt\\nplt.plot([1, 2]);", "plt.plot([2, 1])\\nplt.show()")
        print(json.dumps([sorted({kind for each in cell for kind in each.get("data", {})}) for cell in outputs]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, '[["image/png", "text/plain"], ["image/png", "text/plain"]]'), printed


def test_kernel_runs_exit_handlers(scripts: Scripts) -> None:
    script = """
        execute("import atexit, pathlib; atexit.register(pathlib.Path('left').write_text, 'well')")
        print(json.dumps(Path("scratch0/left").read_text()))
    """
    assert in_a_job(scripts, dedented(script)) == "well"


def test_control_thread_ends_before_kernel_exit(scripts: Scripts) -> None:
    # Otherwise ipykernel sometimes deadlocks until Jupyter kills it seconds later.
    look = (
        "import atexit, pathlib; from ipykernel.kernelapp import IPKernelApp as App; thread = App.instance().control_thread; "
        "atexit.register(lambda: pathlib.Path('left').write_text(str(thread.is_alive())))"
    )
    script = f"""
        execute({look!r})
        print(json.dumps(Path("scratch0/left").read_text()))
    """
    assert in_a_job(scripts, dedented(script)) == "False"


@pytest.mark.parametrize("depth", [0, 120])
def test_kernel_sockets_are_private_and_removed(scripts: Scripts, depth: int, tmp_path: Any) -> None:
    folder = tmp_path / ("d" * depth) if depth else tmp_path
    folder.mkdir(exist_ok=True)
    look = (
        "import json, os; from ipykernel.kernelapp import IPKernelApp as App; app = App.instance(); "
        "folder = os.path.dirname(app.ip); "
        "print(json.dumps([app.transport, folder, oct(os.stat(folder).st_mode)[-3:], len(os.listdir(folder))]))"
    )
    script = f"""
        told = said(execute({look!r})[0])
        print(json.dumps([*told, os.path.exists(told[1])]))
    """
    transport, place, mode, count, left = in_a_job(scripts, dedented(script), cwd=folder, env={"TMPDIR": str(folder)})
    assert (transport, mode, count, left) == ("ipc", "700", 5, False)
    assert place.startswith(str(folder)) is (not depth)


def test_remove_scratch_removes_sockets_of_killed_job(scripts: Scripts, tmp_path: Any) -> None:
    from daybook.execution.kernel import remove_scratch

    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    script = """execute("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")"""
    code, _ = scripts.run(EXECUTE + script, cwd=folder, env={"TMPDIR": str(folder)})
    assert code == -9
    scratch = folder / "scratch0"
    sockets: Optional[Any] = (scratch / "sockets").resolve()
    assert sockets.is_dir()
    remove_scratch(scratch)
    assert (sockets.exists(), scratch.exists()) == (False, False)
