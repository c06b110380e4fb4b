"""Notebooks in warm jobs: papermill's kernel is the process that the job kept ready, and as good as any other."""

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
from daybook.execution.kernel import home_of_its_own, kernel_options, remove_scratch

def execute(*cells, options=True):
    number = len(list(Path().glob("scratch*")))
    scratch = Path(f"scratch{number}").resolve()
    scratch.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(book, scratch / "in.ipynb")
    with home_of_its_own(scratch), kernel_options(scratch) as chosen:
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
    return scripts.told(EXECUTE + script, **how)


def last_line(printed: str) -> str:
    return printed.splitlines()[-1]


@pytest.mark.parametrize("options", [True, False])
def test_a_notebooks_kernel_is_the_process_kept_ready_with_all_imported(scripts: Scripts, options: bool) -> None:
    script = f"""
        import psutil
        ready = [each.pid for each in psutil.Process().children()]
        parent, warm, _, cwd, pid = said(execute({TELL!r}, options={options})[0])
        print(json.dumps([parent == os.getpid(), warm, cwd == str(Path("scratch0").resolve()), [pid] == ready]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, "[true, true, true, true]"), printed
    # Nothing of ipykernel's words to people who start it by hand.
    assert "Ctrl-C" not in printed


def dedented(script: str) -> str:
    import textwrap

    return textwrap.dedent(script)


def test_a_second_notebook_gets_an_ordinary_kernel_with_nothing_of_the_first(scripts: Scripts) -> None:
    script = f"""
        first = said(execute("a = 1", {TELL!r})[1])
        second = said(execute({TELL!r})[0])
        print(json.dumps([first[1:3], second[1:3], second[0] == os.getpid()]))
    """
    assert in_a_job(scripts, dedented(script)) == [[True, True], [False, False], True]


def test_kernels_of_two_jobs_draw_differently_and_start_alike(scripts: Scripts) -> None:
    draw = (
        "import json, random, uuid, numpy, threading\n"
        "print(json.dumps([random.random(), float(numpy.random.rand()), str(uuid.uuid4()), threading.active_count()]))"
    )
    first, second = (in_a_job(scripts, f"print(json.dumps(said(execute({draw!r})[0])))") for _ in range(2))
    assert [one == other for one, other in zip(first, second)] == [False, False, False, True]


def test_a_kernel_that_dies_is_seen_as_dead(scripts: Scripts) -> None:
    script = """
        from nbclient.exceptions import DeadKernelError
        try:
            execute("1", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        except DeadKernelError:
            print(json.dumps("dead"))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, '"dead"')


def test_a_kernel_that_dies_before_it_is_ready_fails_at_once(scripts: Scripts) -> None:
    script = """
        from daybook.execution.fork_server import seed
        import signal
        os.kill(seed._planted.pid, signal.SIGKILL)
        try:
            execute("1")
        except (RuntimeError, OSError) as error:
            print(json.dumps(type(error).__name__))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert code == 0, printed
    assert last_line(printed) in ('"RuntimeError"', '"BrokenPipeError"')


def test_a_cell_can_be_interrupted(scripts: Scripts) -> None:
    script = """
        from nbclient.client import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
        scratch = Path("scratch0").resolve(); scratch.mkdir()
        cell = nbformat.v4.new_code_cell("import threading; threading.Event().wait(300)")
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
        book = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("print(os.getppid())")], metadata=kernel)
        with home_of_its_own(scratch), kernel_options(scratch) as chosen:
            client = NotebookClient(book, timeout=2, interrupt_on_timeout=True, **chosen)
            try:
                client.execute()
            except CellExecutionError as error:
                print(json.dumps([error.ename, os.getpid()]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert code == 0, printed
    assert '["KeyboardInterrupt"' in last_line(printed)


def test_figures_are_shown_under_the_cell_that_draws_them(scripts: Scripts) -> None:
    script = """
        outputs = execute("import matplotlib.pyplot as plt\\nplt.plot([1, 2]);", "plt.plot([2, 1])\\nplt.show()")
        print(json.dumps([sorted({kind for each in cell for kind in each.get("data", {})}) for cell in outputs]))
    """
    code, printed = scripts.run(EXECUTE + dedented(script))
    assert (code, last_line(printed)) == (0, '[["image/png", "text/plain"], ["image/png", "text/plain"]]'), printed


def test_what_a_kernel_does_at_its_exit_is_done(scripts: Scripts) -> None:
    script = """
        execute("import atexit, pathlib; atexit.register(pathlib.Path('left').write_text, 'well')")
        print(json.dumps(Path("scratch0/left").read_text()))
    """
    assert in_a_job(scripts, dedented(script)) == "well"


def test_a_kernel_begins_its_exit_only_when_nothing_of_it_speaks_any_more(scripts: Scripts) -> None:
    # Else ipykernel now and then waits for itself, until Jupyter kills it seconds later.
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
def test_kernels_are_reached_by_sockets_of_this_user_and_leave_none(scripts: Scripts, depth: int, tmp_path: Any) -> None:
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


def test_what_a_killed_job_left_is_removed_with_its_scratch(scripts: Scripts, tmp_path: Any) -> None:
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
