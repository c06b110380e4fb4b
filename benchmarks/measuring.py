"""Seconds and memory of what runs in other processes, and the median of repeats in turn.

Here: that. Not here: what is measured (``systems``, and a module a part).
"""

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
    """The peak of the largest process below this one that begins while the ``with`` lasts, in bytes.

    The kernel counts each process's peak (VmHWM); it is read twenty times a second, so only what a process takes in its last
    twentieth of a second is missed. Pages that a forked process shares with its parent count in both. What a process was before
    it executed a program (its parent's copy) does not count once it has: the kernel counts anew, and its last word is taken.
    """

    def __enter__(self) -> MemoryWatch:
        self.looks = 0
        self._peaks: dict[int, tuple[int, str]] = {}
        self._others = {process.pid for process in psutil.Process().children(recursive=True)}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """Bytes; 0 before anything was looked at."""
        return max(self._peaks.values(), default=(0, ""))[0]

    @property
    def largest(self) -> str:
        """The name of the process that had the peak."""
        return max(self._peaks.values(), default=(0, ""))[1]

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            for process in psutil.Process().children(recursive=True):
                if process.pid not in self._others:
                    self._sample(process.pid)
            self.looks += 1

    def _sample(self, pid: int) -> None:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:  # It has ended.
            return
        said = dict(line.split(":", 1) for line in lines if ":" in line)
        if "VmHWM" in said:  # It has not ended, to be fetched by its parent.
            self._peaks[pid] = (int(said["VmHWM"].split()[0]) * 1024, said["Name"].strip())


def run_command(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float = 900) -> float:
    """Run a command to its end and return its seconds; what it printed is shown where it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        list(arguments), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:6])} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return seconds


def measure_interleaved(systems: Mapping[str, Measure], repeats: int, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Measure in turn, A B C A B C: medians of ``seconds``, all of them, and everything else of the last answer."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for number in range(1, repeats + 1):
        for name, measure in systems.items():
            answers[name].append(measure())
            say(f"{number}/{repeats} {name}: {answers[name][-1]['seconds']:.2f} s")
    return {name: summarize_repeats(found) for name, found in answers.items()}


def summarize_repeats(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Repeats of one system as one: the median of ``seconds``, the largest ``peak_bytes``, the rest as it was last."""
    times = [each["seconds"] for each in found]
    whole = {**found[-1], "seconds": median(times), "all_seconds": [round(each, 4) for each in times]}
    if "peak_bytes" in whole:
        whole["peak_bytes"] = max(each["peak_bytes"] for each in found)
    return whole
