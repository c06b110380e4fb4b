"""Measure seconds and memory of other processes, and repeat measurements of several systems in turn."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Callable

import psutil

Measure = Callable[[], dict[str, Any]]
_SAMPLE_SECONDS = 0.05


class MemoryWatch:
    """Record the peak memory, in bytes, of the largest descendant process that starts within the ``with`` block.

    The kernel's peak of each process (VmHWM) is read every 50 ms, so a peak in the last 50 ms of a process is missed. Pages
    that a forked process shares with its parent count in both. The newest value is used, because the kernel resets the peak
    when a process executes another program.
    """

    def __enter__(self) -> MemoryWatch:
        self.samples = 0
        self._peaks: dict[int, tuple[int, str]] = {}
        self._others = {process.pid for process in psutil.Process().children(recursive=True)}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """The peak in bytes; 0 before the first sample."""
        return max(self._peaks.values(), default=(0, ""))[0]

    @property
    def largest(self) -> str:
        """The name of the process with the peak."""
        return max(self._peaks.values(), default=(0, ""))[1]

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            for process in psutil.Process().children(recursive=True):
                if process.pid not in self._others:
                    self._sample(process.pid)
            self.samples += 1

    def _sample(self, pid: int) -> None:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:  # the process has exited
            return
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if "VmHWM" in status:  # missing for a zombie process
            self._peaks[pid] = (int(status["VmHWM"].split()[0]) * 1024, status["Name"].strip())


def run_command(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float = 900) -> float:
    """Run a command and return its seconds; raise RuntimeError with its output if it fails."""
    start = time.perf_counter()
    process = subprocess.run(
        list(arguments), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(arguments[:6])} exited with {process.returncode}:\n{(process.stdout + process.stderr)[-3000:]}"
        )
    return seconds


def measure_interleaved(systems: Mapping[str, Measure], repeats: int, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Measure ``systems`` in turn (A B C A B C) and summarize the repeats of each."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for number in range(1, repeats + 1):
        for name, measure in systems.items():
            answers[name].append(measure())
            log(f"{number}/{repeats} {name}: {answers[name][-1]['seconds']:.2f} s")
    return {name: summarize_repeats(found) for name, found in answers.items()}


def summarize_repeats(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of ``seconds``, the largest ``peak_bytes``, and all other values of the last repeat."""
    times = [each["seconds"] for each in found]
    summary = {**found[-1], "seconds": median(times), "all_seconds": [round(each, 4) for each in times]}
    if "peak_bytes" in summary:
        summary["peak_bytes"] = max(each["peak_bytes"] for each in found)
    return summary
