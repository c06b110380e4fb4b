"""What a kernel's process prints is kept off the job's output, and its environment is given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daybook.kernel import home_of_its_own, printed_in, printing_to


def test_what_this_process_and_those_it_starts_print_goes_to_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with printing_to(tmp_path / "printed.txt"):
        os.write(1, b"below Python\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'another process')"], check=True)
    os.write(1, b"after\n")

    kept = capfd.readouterr()
    assert (kept.out, kept.err) == ("after\n", "")
    printed = printed_in(tmp_path / "printed.txt")
    assert [part in printed for part in ("below Python", "another process")] == [True, True]


def test_output_comes_back_after_a_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), printing_to(tmp_path / "printed.txt"):
        raise ZeroDivisionError
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_of_too_much_output_whole_last_lines_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "printed.txt"
    file.write_text("".join(f"line {number:06d} of what was printed\n" for number in range(50_000)))
    first, second, *_, last = printed_in(file).splitlines()
    assert "characters are left out" in first
    assert second.startswith("line 0")
    assert last == "line 049999 of what was printed"


def test_nothing_printed_is_an_empty_text(tmp_path: Path) -> None:
    assert printed_in(tmp_path / "nowhere.txt") == ""


def test_a_kernels_home_lies_in_scratch_for_as_long_as_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", "mine")
    monkeypatch.delenv("JUPYTER_RUNTIME_DIR", raising=False)
    with home_of_its_own(tmp_path):
        assert os.environ["IPYTHONDIR"] == str(tmp_path / "ipython")
        assert os.environ["JUPYTER_RUNTIME_DIR"] == str(tmp_path / "runtime")
    assert os.environ["IPYTHONDIR"] == "mine"
    assert "JUPYTER_RUNTIME_DIR" not in os.environ
