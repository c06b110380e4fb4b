"""Test that each mistake on the command line gives one sentence and an exit code, and starts nothing."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from daybook.cli import main
from daybook.settings import project_root


class Daybook:
    """Call the command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["daybook", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def daybook(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Daybook:
    return Daybook(monkeypatch, capsys)


MISTAKES = [
    (["run", "--date", "2025-02-30"], 2, "'2025-02-30' is not a business date; write it as YYYY-MM-DD"),
    (["run", "--date", "yesterday"], 2, "'yesterday' is not a business date"),
    (["run", "--env", "nope"], 2, "There is no params/nope.yaml; choose one of: local, olist, online_retail, prod."),
    (["run", "--set", "speed=9"], 2, "there is no key 'speed'; the keys are: title, source,"),
    (["run", "--set", "landing"], 2, "--set landing has no value; write --set KEY=VALUE."),
    (
        ["run", "--set", "max_rejected_share=2"],
        2,
        "--set: key 'max_rejected_share' is '2': it should be less than or equal to 1.",
    ),
    (["run", "--speed", "9"], 2, "No such option: --speed"),
    (["fly"], 2, "No such command 'fly'."),
    (["run"], 1, "holds no files; name the landing folder with --set landing=FOLDER"),
    (["show", "daily-2025-11-30-1"], 2, "There is no run daily-2025-11-30-1; `daybook runs` lists them."),
    (["show", "today"], 2, "'today' is not a run's name"),
    (["resume", "daily-2025-11-30-1"], 2, "There is no run daily-2025-11-30-1"),
    (["sql", "SELECT * FROM gold.daily_sale"], 2, "There is no table gold.daily_sale; did you mean gold.daily_sales?"),
    (["sql", "SELECT nothing FROM gold.daily_sales"], 2, 'Referenced column "nothing" not found'),
    (["sql", "SELECT FROM WHERE"], 2, "The query does not parse:"),
    (
        ["sql", "DROP TABLE gold.daily_sales"],
        2,
        "Give one SELECT, PIVOT, UNPIVOT, DESCRIBE, SUMMARIZE or SHOW TABLES; tables are changed by the stages only.",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_mistakes_give_one_sentence_and_an_exit_code(
    daybook: Daybook, home: Path, arguments: list[str], code: int, sentence: str
) -> None:
    ended, out, err = daybook(*arguments)
    assert ended == code
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    assert not (home / "archive").exists()


@pytest.mark.parametrize("command", [["status"], ["gaps"], ["quarantine", "list"], ["erase", "--customer", "7", "--yes"]])
@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (EOFError("cut short"), 1, "A file ended too early (cut short); run `daybook --debug` to see which one.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
    ids=["damaged file", "interrupt"],
)
def test_failed_command_prints_a_message(
    daybook: Daybook, monkeypatch: pytest.MonkeyPatch, command: list[str], error: BaseException, exit_code: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("daybook.settings.load_settings", fail)
    code, out, stderr = daybook(*command)
    assert (code, out, stderr.lstrip("\n")) == (exit_code, "", message)


def test_question_without_an_answer_prints_a_message(daybook: Daybook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, stderr = daybook("rekey")
    assert (code, stderr.strip()) == (1, "No answer was given; add --yes to skip the question.")


def test_debug_option_shows_the_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from daybook.errors import ParamsError

    monkeypatch.setattr(sys, "argv", ["daybook", "--debug", "runs", "--env", "nope"])
    with pytest.raises(ParamsError):
        main()


def test_error_for_missing_key_names_file_and_key(daybook: Daybook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params").mkdir()
    text = (project_root() / "params" / "local.yaml").read_text()
    (tmp_path / "params" / "local.yaml").write_text(re.sub(r"(?m)^timezone:.*\n", "", text))
    monkeypatch.setenv("DAYBOOK_PROJECT", str(tmp_path))
    code, _, err = daybook("runs")
    assert (code, err.strip()) == (2, "params/local.yaml: key 'timezone' is missing; add it.")


def test_archive_without_runs_prints_advice(daybook: Daybook) -> None:
    assert daybook("runs") == (0, "There are no runs yet; `daybook run` makes one.\n", "")


def test_sql_prints_json(daybook: Daybook) -> None:
    code, out, _ = daybook("sql", "SELECT 1 AS one, DATE '2025-11-30' AS day", "--json")
    assert code == 0
    assert json.loads(out) == [{"one": 1, "day": "2025-11-30"}]


def test_empty_gold_table_can_be_queried(daybook: Daybook) -> None:
    code, out, _ = daybook("sql", "SELECT count(*) AS days FROM gold.daily_sales", "--json")
    assert (code, json.loads(out)) == (0, [{"days": 0}])


def test_check_accepts_the_project(daybook: Daybook) -> None:
    code, out, _ = daybook("check")
    assert code == 0, out
    assert "files are valid" in out


def test_version_is_printed(daybook: Daybook) -> None:
    assert daybook("--version")[1].startswith("daybook 0.")
