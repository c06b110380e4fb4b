"""The host: what it preloads, how it and its jobs end, and what becomes of jobs where there is none."""

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
def test_what_is_preloaded_starts_no_thread() -> None:
    script = (
        "import importlib\nfrom daybook.execution.fork_server.server import PRELOADED\n"
        "from daybook.execution.fork_server.process import count_threads\n"
        "for name in PRELOADED:\n"
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
def test_a_killed_host_takes_its_jobs_along_and_the_next_job_has_a_new_one(own: Scripts, tmp_path: Path) -> None:
    first = own.told(PARENT)
    job, _ = own.start("import signal; signal.pause()")
    assert job.wait(0) is None
    os.kill(first, signal.SIGKILL)
    assert wait_for(job) == -signal.SIGKILL
    wait_until(lambda: is_gone(job.pid), "the end of the job")
    wait_until(lambda: is_gone(first), "the end of the host")
    second, _ = own.start(PARENT)
    assert isinstance(second, ForkedJob)
    assert wait_for(second) == 0
    assert own.told(PARENT) not in (first, os.getpid())


@linux
def test_a_process_whose_parent_was_gone_before_it_could_ask_ends_too(tmp_path: Path) -> None:
    # The process in the middle forks and ends at once; the one below waits for that, and only then asks to die with it.
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
def test_closing_a_host_ends_its_jobs(own: Scripts) -> None:
    parent = own.told(PARENT)
    job, _ = own.start("import signal; signal.pause()")
    own.host.close()
    assert wait_for(job) == -signal.SIGKILL
    assert is_gone(parent)
    wait_until(lambda: is_gone(job.pid), "the end of the job")


RUNNER = """
import json, os, sys, threading
from pathlib import Path
from daybook.execution.fork_server import Host

folder = Path(sys.argv[1])
host = Host(folder / "host.log")
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
def test_no_process_outlives_the_one_it_was_begun_by(tmp_path: Path, whom: str) -> None:
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
def test_a_job_that_nobody_waits_for_any_more_is_not_left_to_run(own: Scripts, tmp_path: Path, monkeypatch) -> None:
    own.told(PARENT)

    def interrupted(self: ForkedJob, timeout: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ForkedJob, "_hear", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.start(f"open({str(tmp_path / 'ran')!r}, 'w').close(); import signal; signal.pause()")
    host = own.told(PARENT)
    children = {child.pid for child in psutil.Process(host).children()}
    wait_until(lambda: all(is_gone(pid) for pid in children), "the end of the job")


# -- no fork ------------------------------------------------------------------------------------------------------------


def test_where_nothing_can_be_forked_jobs_start_cold_and_the_log_says_so_once(
    own: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "can_fork", lambda: False)
    script = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['SHOP']); raise SystemExit('ill')"
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        for _ in range(2):
            job, printed = own.start(script, "a", env={"SHOP": "corner"})
            assert isinstance(job, SubprocessJob)
            assert wait_for(job) == 1
            assert printed.read_text().splitlines() == [f"['a'] {tmp_path} corner", "ill"]
    assert [record.getMessage() for record in caplog.records] == [f"Jobs start cold: {sys.platform} has no safe fork."]
    assert not (tmp_path / "log").exists()


@linux
def test_a_cold_job_keeps_open_what_it_is_to_keep_and_is_told_apart_when_killed(
    own: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "can_fork", lambda: False)
    with (tmp_path / "kept").open("w") as kept:
        number = kept.fileno()
        assert (
            own.told(f"import json, os; print(json.dumps(os.readlink('/proc/self/fd/{number}')))", keep=(number,)) == kept.name
        )
    job, _ = own.start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert wait_for(job) == -signal.SIGKILL


def lacking(package: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the host find a module of that name first, which ends it while it imports."""
    (folder / f"{package}.py").write_text(f"raise SystemExit('no {package} today')")
    monkeypatch.setattr(client, "_python_path", lambda: os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@linux
def test_a_host_that_cannot_start_is_not_tried_again_and_its_last_words_are_told(
    own: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    lacking("papermill", monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        assert own.run("print('well')") == (0, "well\n")
        assert own.run("print('well')") == (0, "well\n")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "Jobs start cold: the warm host ended early. (no papermill today)"
    assert (tmp_path / "log" / "host.log").read_text().count("no papermill today") == 1


@linux
def test_where_the_rest_cannot_be_preloaded_the_job_under_way_goes_on_and_the_next_start_cold(
    own: Scripts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # What draws is not among what the first job needs.
    lacking("matplotlib", monkeypatch, tmp_path)
    log = tmp_path / "log" / "host.log"
    until_it_failed = f"""
        import pathlib
        while "no matplotlib today" not in pathlib.Path({str(log)!r}).read_text():
            pass
        print("well")
    """
    with caplog.at_level(logging.WARNING, "daybook.execution.fork_server"):
        assert own.run(until_it_failed) == (0, "well\n")
        assert not caplog.records
        assert own.run("print('well')") == (0, "well\n")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("Jobs start cold: the warm host starts no job (SystemExit: no matplotlib today).")


@linux
@slow
def test_warm_and_cold_jobs_have_the_same_results(own: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        import json, os, sys
        import pandas
        frame = pandas.DataFrame({"amount": [10.0, 5.5]})
        print(json.dumps({"sum": float(frame.amount.sum()), "argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path,
                          "env": {k: v for k, v in os.environ.items() if k != "JUPYTER_DEFAULT_PROVISIONER_NAME"}}))
    """
    warm = own.told(script, "x", env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    monkeypatch.setattr(client, "can_fork", lambda: False)
    cold = own.told(script, "x", env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    package = client._python_path().split(os.pathsep)[0]
    assert {**warm, "path": [each for each in warm["path"] if each != package]} == {
        **cold,
        "path": [each for each in cold["path"] if each != package],
    }
    assert json.dumps(cold["sum"]) == "15.5"


@linux
def test_a_host_that_was_begun_early_is_the_one_that_the_first_job_is_forked_from(own: Scripts) -> None:
    own.host.begin()
    begun = own.host._process
    assert begun is not None
    own.host.begin()
    assert own.host._process is begun
    assert own.told("import os; print(os.getppid())") == begun.pid


def test_where_its_log_cannot_be_written_beginning_early_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    host = ForkServer(tmp_path / "file" / "host.log")
    host.begin()
    assert host._process is None
