"""Test the fork server: preloaded modules, ends of server and jobs, and jobs without fork."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from daybook.execution.fork_server import ForkedJob, ForkServer, SubprocessJob, client
from daybook.execution.fork_server.client import SINGLE_THREAD_ENV
from tests.execution.fork_server.conftest import Scripts, is_gone, wait_for, wait_until

linux = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")
slow = pytest.mark.slow

PARENT = "import json, os; print(json.dumps(os.getppid()))"


@linux
@slow
def test_preloaded_modules_start_no_thread() -> None:
    script = (
        "import importlib\nfrom daybook.execution.fork_server.server import PRELOADED_MODULES\n"
        "from daybook.execution.fork_server.process import count_threads\n"
        "for name in PRELOADED_MODULES:\n"
        "    importlib.import_module(name)\n"
        "    assert count_threads() == 1, f'{name} starts a thread'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **SINGLE_THREAD_ENV},
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@linux
@slow
def test_killed_server_ends_jobs_and_is_restarted(own_scripts: Scripts, tmp_path: Path) -> None:
    first = own_scripts.run_json(PARENT)
    job, _ = own_scripts.start("import signal; signal.pause()")
    assert job.wait(0) is None
    os.kill(first, signal.SIGKILL)
    assert wait_for(job) == -signal.SIGKILL
    wait_until(lambda: is_gone(job.pid), "the end of the job")
    wait_until(lambda: is_gone(first), "the end of the host")
    second, _ = own_scripts.start(PARENT)
    assert isinstance(second, ForkedJob)
    assert wait_for(second) == 0
    assert own_scripts.run_json(PARENT) not in (first, os.getpid())


@linux
def test_process_dies_if_parent_has_already_ended(tmp_path: Path) -> None:
    # The middle process forks and ends at once. Its child waits for that before it calls die_with_parent.
    script = (
        "import os, sys, time\n"
        "from daybook.execution.fork_server.protocol import die_with_parent\n"
        "reading, writing = os.pipe()\n"
        "middle = os.fork()\n"
        "if middle == 0:\n"
        "    parent = os.getpid()\n"
        "    if os.fork() == 0:\n"
        "        while os.getppid() == parent:\n"
        "            pass\n"
        "        die_with_parent(parent)\n"
        "        os.write(writing, b'alive')\n"
        "    os._exit(0)\n"
        "os.close(writing)\n"
        "os.waitpid(middle, 0)\n"
        "print(os.read(reading, 5).decode() or 'gone')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("gone", "")


@linux
@slow
def test_closing_server_ends_its_jobs(own_scripts: Scripts) -> None:
    parent = own_scripts.run_json(PARENT)
    job, _ = own_scripts.start("import signal; signal.pause()")
    own_scripts.host.close()
    assert wait_for(job) == -signal.SIGKILL
    assert is_gone(parent)
    wait_until(lambda: is_gone(job.pid), "the end of the job")


RUNNER = """
import json, os, sys, threading
from pathlib import Path
from daybook.execution.fork_server import ForkServer

folder = Path(sys.argv[1])
host = ForkServer(folder / "host.log")
with (folder / "out").open("wb") as output:
    job = host.run([str(folder / "job.py")], env=dict(os.environ), cwd=str(folder), output=output)
print(job.pid, flush=True)
threading.Event().wait()
"""
NOTEBOOK_JOB = """
import nbformat, os, papermill
source = "import os, pathlib, signal; pathlib.Path('kernel').write_text(str(os.getpid())); signal.pause()"
cell = nbformat.v4.new_code_cell(source)
kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), "in.ipynb")
papermill.execute_notebook("in.ipynb", "out.ipynb", kernel_name="python3", progress_bar=False, cwd=os.getcwd())
"""


@linux
@slow
@pytest.mark.parametrize("whom", ["runner", "host", "job"])
def test_processes_die_with_their_parent(tmp_path: Path, whom: str) -> None:
    (tmp_path / "job.py").write_text(NOTEBOOK_JOB)
    command = [sys.executable, "-c", RUNNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as runner:
        assert runner.stdout is not None
        job = int(runner.stdout.readline())
        host = psutil.Process(job).ppid()
        written = tmp_path / "kernel"
        wait_until(lambda: written.exists() and bool(written.read_text()), "the kernel")
        kernel = int(written.read_text())
        assert psutil.Process(kernel).ppid() == job
        killed = {"runner": runner.pid, "host": host, "job": job}[whom]
        os.kill(killed, signal.SIGKILL)
        gone = {"runner": [runner.pid, host, job, kernel], "host": [host, job, kernel], "job": [job, kernel]}[whom]
        for pid in gone:
            wait_until(lambda pid=pid: is_gone(pid), f"the end of process {pid}")  # type: ignore[misc]
        if whom == "job":
            assert not is_gone(host)
        runner.kill()


@linux
@slow
def test_job_of_interrupted_client_is_killed(own_scripts: Scripts, tmp_path: Path, monkeypatch) -> None:
    own_scripts.run_json(PARENT)

    def interrupted(self: ForkedJob, timeout: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ForkedJob, "_receive_reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own_scripts.start(f"open({str(tmp_path / 'ran')!r}, 'w').close(); import signal; signal.pause()")
    host = own_scripts.run_json(PARENT)
    children = {child.pid for child in psutil.Process(host).children()}
    wait_until(lambda: all(is_gone(pid) for pid in children), "the end of the job")


# -- no fork ------------------------------------------------------------------------------------------------------------


def test_jobs_start_without_fork_and_one_warning(
    own_scripts: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "can_fork", lambda: False)
    script = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['SHOP']); raise SystemExit('ill')"
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        for _ in range(2):
            job, printed = own_scripts.start(script, "a", env={"SHOP": "corner"})
            assert isinstance(job, SubprocessJob)
            assert wait_for(job) == 1
            assert printed.read_text().splitlines() == [f"['a'] {tmp_path} corner", "ill"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Jobs start without fork: {sys.platform} does not support it safely."
    ]
    assert not (tmp_path / "log").exists()


@linux
def test_subprocess_job_inherits_descriptors(own_scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "can_fork", lambda: False)
    with (tmp_path / "kept").open("w") as kept:
        number = kept.fileno()
        assert (
            own_scripts.run_json(
                f"import json, os; print(json.dumps(os.readlink('/proc/self/fd/{number}')))", inherited=(number,)
            )
            == kept.name
        )
    job, _ = own_scripts.start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert wait_for(job) == -signal.SIGKILL


def lacking(package: str, monkeypatch: pytest.MonkeyPatch, folder: Path, first: str = "") -> None:
    """Let the server find a module with that name first, which runs the code ``first`` and ends it."""
    (folder / f"{package}.py").write_text(f"{first}\nraise SystemExit('no {package} today')")
    monkeypatch.setattr(client, "_python_path", lambda: os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@linux
@pytest.mark.parametrize(
    "first",
    ["", "import os, sys; os.close(int(sys.argv[1])); sum(range(30_000_000))"],
    ids=["at once", "after its sockets are closed"],
)
def test_failed_server_is_not_restarted(
    own_scripts: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, first: str
) -> None:
    lacking("papermill", monkeypatch, tmp_path, first)
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        assert own_scripts.run("print('well')") == (0, "well\n")
        assert own_scripts.run("print('well')") == (0, "well\n")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "Jobs start without fork: the fork server has ended. (no papermill today)"
    assert (tmp_path / "log" / "host.log").read_text().count("no papermill today") == 1


@linux
def test_failed_preload_refuses_new_jobs_only(
    own_scripts: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # The first job does not need matplotlib.
    lacking("matplotlib", monkeypatch, tmp_path)
    log = tmp_path / "log" / "host.log"
    until_it_failed = f"""
        import pathlib
        while "no matplotlib today" not in pathlib.Path({str(log)!r}).read_text():
            pass
        print("well")
    """
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        assert own_scripts.run(until_it_failed) == (0, "well\n")
        assert not caplog.records
        assert own_scripts.run("print('well')") == (0, "well\n")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("Jobs start without fork: the fork server starts no job (SystemExit: no matplotlib today).")


@linux
@slow
def test_forked_and_subprocess_jobs_give_same_results(own_scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        import json, os, sys
        import pandas
        frame = pandas.DataFrame({"amount": [10.0, 5.5]})
        print(json.dumps({"sum": float(frame.amount.sum()), "argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path,
                          "env": {k: v for k, v in os.environ.items() if k != "JUPYTER_DEFAULT_PROVISIONER_NAME"}}))
    """
    warm = own_scripts.run_json(script, "x", env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    monkeypatch.setattr(client, "can_fork", lambda: False)
    cold = own_scripts.run_json(script, "x", env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    package = client._python_path().split(os.pathsep)[0]
    assert {**warm, "path": [each for each in warm["path"] if each != package]} == {
        **cold,
        "path": [each for each in cold["path"] if each != package],
    }
    assert json.dumps(cold["sum"]) == "15.5"


@linux
def test_first_job_uses_server_started_early(own_scripts: Scripts) -> None:
    own_scripts.host.start()
    begun = own_scripts.host._process
    assert begun is not None
    own_scripts.host.start()
    assert own_scripts.host._process is begun
    assert own_scripts.run_json("import os; print(os.getppid())") == begun.pid


def test_early_start_ignores_unwritable_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    host = ForkServer(tmp_path / "file" / "host.log")
    host.start()
    assert host._process is None
