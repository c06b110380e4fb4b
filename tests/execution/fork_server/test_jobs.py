"""Test that a forked job behaves like a new process and shares no state with other jobs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.fork_server import ForkedJob
from daybook.records.locks import DateLocks
from tests.execution.fork_server.conftest import Scripts, is_gone, wait_for, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")

SURROUNDINGS = """
    import json, os, sys
    print(json.dumps({
        "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "path": sys.path[0], "name": __name__, "file": __file__,
        "input": os.read(0, 10).decode(), "leads": os.getpid() == os.getsid(0),
    }))
"""


def test_job_has_arguments_environment_and_folder(scripts: Scripts, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    told = scripts.run_json(SURROUNDINGS, "--date", "2025-11-30", "", env={"SHOP": "corner"}, cwd=folder)
    script = str(tmp_path / "job1.py")
    assert told["argv"] == [script, "--date", "2025-11-30", ""]
    assert (told["cwd"], told["path"], told["name"], told["file"]) == (str(folder), str(tmp_path), "__main__", script)
    assert told["env"]["SHOP"] == "corner"
    # Only the variable for Daybook's provisioner is added.
    added = {name for name in told["env"] if name not in os.environ} - {"SHOP"}
    assert added <= {"JUPYTER_DEFAULT_PROVISIONER_NAME"}
    assert (told["input"], told["leads"]) == ("", True)


def test_job_has_imported_packages(scripts: Scripts) -> None:
    assert scripts.run_json(
        "import json, sys; print(json.dumps('daybook.execution.stage' in sys.modules and 'pandas' in sys.modules))"
    )


def test_job_collects_only_own_garbage(scripts: Scripts) -> None:
    told = scripts.run_json(
        "import gc, json; print(json.dumps([gc.isenabled(), len(gc.get_objects()) < gc.get_freeze_count() / 10]))"
    )
    assert told == [True, True]


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("print('well')", 0, "well\n"),
        ("import sys; print('ill'); sys.exit(3)", 3, "ill\n"),
        ("raise SystemExit", 0, ""),
        ("print('sorry'); raise SystemExit('no such day')", 1, "sorry\nno such day\n"),
        ("import os; os._exit(7)", 7, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_job_ends_with_exit_code_and_output_of_script(scripts: Scripts, script: str, code: int, said: str) -> None:
    assert scripts.run(script) == (code, said)


def test_exception_prints_traceback_and_exits_with_1(scripts: Scripts) -> None:
    code, printed = scripts.run("print('before')\nraise ValueError('the till is empty')")
    assert code == 1
    assert printed.startswith("before\nTraceback")
    assert "ValueError: the till is empty" in printed
    assert "job1.py" in printed


def test_missing_script_fails_its_job_only(scripts: Scripts) -> None:
    _, printed = scripts.start("")
    with printed.open("wb") as output:
        job = scripts.host.run(["nowhere.py"], env=dict(os.environ), cwd=str(printed.parent), output=output)
    assert wait_for(job) == 1
    assert "nowhere.py" in printed.read_text()
    assert scripts.run("print('well')") == (0, "well\n")


def test_job_joins_threads_and_runs_exit_handlers(scripts: Scripts) -> None:
    code, printed = scripts.run(
        """
        import atexit, sys, threading
        atexit.register(print, "at exit", flush=True)
        go = threading.Event()
        def later():
            go.wait(30)
            print("in a thread", flush=True)
        threading.Thread(target=later).start()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print("main", flush=True)
        go.set()
        sys.exit(5)
        """
    )
    assert (code, sorted(printed.splitlines())) == (5, ["at exit", "in a thread", "main"])
    assert printed.endswith("at exit\n")


def test_wait_returns_none_while_job_is_running(scripts: Scripts, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job, _ = scripts.start(f"open({str(gate)!r}).read()")
    assert job.wait(0) is None
    assert job.wait(0.01) is None
    with gate.open("w"):
        pass
    assert wait_for(job) == 0
    assert job.wait(0) == 0


# -- isolation of jobs ----------------------------------------------------------------------------------------------------

LEAVE_TRACES = """
    import builtins, json, logging, os, random, sys, tempfile, threading, warnings
    import daybook, numpy, pandas
    builtins.trace = daybook.trace = sys.modules["trace_of_another"] = pandas
    os.environ["TRACE"] = "left"
    os.chdir("/")
    os.umask(0o077)
    sys.path.insert(0, "/trace")
    random.seed(1); numpy.random.seed(1)
    logging.getLogger().addHandler(logging.NullHandler())
    pandas.set_option("display.max_rows", 3)
    tempfile.tempdir = "/"
    kept = [open(os.devnull) for _ in range(20)]
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    hoard = bytearray(100_000_000); hoard[::4096] = bytes([1]) * len(hoard[::4096])
    print(json.dumps("done"))
"""
LOOK = """
    import builtins, json, logging, os, random, sys, tempfile, threading
    import daybook, numpy, pandas, psutil
    umask = os.umask(0); os.umask(umask)
    print(json.dumps({
        "trace": [hasattr(builtins, "trace"), hasattr(daybook, "trace"), "trace_of_another" in sys.modules,
                  "TRACE" in os.environ],
        "names": sorted(name for name in globals() if not name.startswith("__")),
        "cwd": os.getcwd(), "umask": umask, "path": sys.path[1:], "temp": tempfile.gettempdir(),
        "handlers": len(logging.getLogger().handlers), "rows": pandas.get_option("display.max_rows"),
        "open": sorted(os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd")
                       if os.path.exists(f"/proc/self/fd/{n}")),
        "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
        "memory": psutil.Process().memory_full_info().uss,
        "signals": [str(__import__("signal").getsignal(n)) for n in (2, 15, 17)],
    }))
"""


def test_jobs_share_no_state(scripts: Scripts, tmp_path: Path) -> None:
    def look() -> dict[str, Any]:
        told: dict[str, Any] = scripts.run_json(LOOK, env={"TMPDIR": str(tmp_path)})
        told["open"] = [place.replace(f"job{scripts.count}.", "job.") for place in told["open"]]
        return told

    before = look()
    assert scripts.run_json(LEAVE_TRACES) == "done"
    after = look()
    used = [each.pop("memory") for each in (before, after)]
    assert used[1] < used[0] + 20_000_000
    assert before["trace"] == [False] * 4
    assert before["temp"] == str(tmp_path)
    assert before["threads"] == [1, 1]
    # Only input, output twice and the connection to the standby kernel.
    assert [place.rsplit("/", 1)[-1] for place in before["open"]] == ["null", "job.txt", "job.txt", "socket"]
    assert after == before


def test_jobs_have_different_random_numbers(scripts: Scripts) -> None:
    draw = """
        import json, random, tempfile, uuid, numpy
        print(json.dumps([random.random(), float(numpy.random.rand()), float(numpy.random.default_rng().random()),
                          str(uuid.uuid4()), next(tempfile._get_candidate_names())]))
    """
    first, second = scripts.run_json(draw), scripts.run_json(draw)
    assert [one == other for one, other in zip(first, second)] == [False] * 5


def test_job_uses_given_time_zone(scripts: Scripts) -> None:
    script = "import json, time; print(json.dumps(time.localtime(0).tm_hour))"
    assert scripts.run_json(script, env={"TZ": "UTC"}) == 0
    assert scripts.run_json(script, env={"TZ": "Asia/Tokyo"}) == 9


def test_job_inherits_only_given_descriptors(scripts: Scripts, tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as kept, (tmp_path / "other").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        found = scripts.run_json(
            "import json, os; print(json.dumps([os.readlink(f'/proc/self/fd/{n}') for n in range(20) "
            "if os.path.lexists(f'/proc/self/fd/{n}')]))",
            inherited=(kept.fileno(),),
        )
    assert str(tmp_path / "kept") in found
    assert str(tmp_path / "other") not in found


@pytest.mark.parametrize("dates", [31, 260])
def test_job_inherits_the_locks_of_a_range(scripts: Scripts, tmp_path: Path, dates: int) -> None:
    with DateLocks(str(tmp_path / "archive"), [date(2025, 1, 1) + timedelta(days=each) for each in range(dates)]) as held:
        found = scripts.run_json(
            "import json, os; fds = os.listdir('/proc/self/fd'); places = [f'/proc/self/fd/{fd}' for fd in fds]; "
            "print(json.dumps(sum(os.path.exists(each) and os.readlink(each).endswith('.lock') for each in places)))",
            inherited=tuple(held.descriptors),
        )
    assert found == dates


def test_large_environment_and_many_arguments(scripts: Scripts) -> None:
    script = "import json, os, sys; print(json.dumps([len(os.environ['LARGE']), len(sys.argv)]))"
    assert scripts.run_json(script, *map(str, range(5000)), env={"LARGE": "é" * 300_000}) == [300_000, 5001]


def test_fork_server_is_thread_safe(scripts: Scripts) -> None:
    together = threading.Barrier(8)

    def ask(number: int) -> tuple[int, str]:
        mine = Scripts(scripts.host, scripts.folder / str(number))
        mine.folder.mkdir()
        together.wait(30)
        return mine.run("import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1]))", str(number))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [(number, f"{number}\n") for number in range(8)]


def test_standby_kernel_ends_with_job(scripts: Scripts) -> None:
    seed = scripts.run_json("import json, psutil; print(json.dumps([p.pid for p in psutil.Process().children()]))")
    assert len(seed) == 1
    wait_until(lambda: is_gone(seed[0]), "the end of the process kept ready")


def test_jobs_leave_no_open_files_and_processes(scripts: Scripts) -> None:
    def open_files(process: object) -> int:
        return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())

    def kept() -> tuple[int, int]:
        parent = scripts.run_json("import json, os; print(json.dumps(os.getppid()))")
        # The server has replied to this request, so it has closed its files.
        return open_files(parent), len(Path(f"/proc/{parent}/task/{parent}/children").read_text().split())

    before, mine = kept(), open_files("self")
    for job in [scripts.start("pass")[0] for _ in range(50)]:
        assert isinstance(job, ForkedJob)
        assert wait_for(job) == 0
    # The server closes the files of a job just after it reported its end.
    until = time.monotonic() + 30
    while any(now > then for now, then in zip(kept(), before)):
        assert time.monotonic() < until, f"the server has {kept()} (files, processes), and had {before} before the jobs"
    assert open_files("self") <= mine
