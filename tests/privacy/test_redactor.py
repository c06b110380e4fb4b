"""Test that personal values in texts, records and notebooks are redacted, and nothing else."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Collection
from html import escape
from typing import Any, Callable
from urllib.parse import quote, quote_plus

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.privacy.redactor import Redactor, withhold_free_text
from daybook.privacy.values import PersonalValues
from daybook.records.models import AttemptRecord
from daybook.records.names import RESULT_MIME

NAME = "Zoë O'Kanarie-Müßig"
EMAIL = "zoe.okanarie@example.com"
PHONE = "+49 30 23125 123"
COMMENT = "I waited three weeks and my neighbour Käthe had to sign for it, which she did not like at all"
KEY = "0f" * 16
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def redactor(*, ordinary: Collection[str] = ()) -> Redactor:
    values = PersonalValues()
    values.add("name", "name", [NAME, "Gold", None, "", "NULL", "Jo"])
    values.add("email", "email", [EMAIL])
    values.add("phone", "phone", [PHONE])
    values.add("customer_id", "id", ["C-00042", "17850", "123"])
    values.add("postal_code", "address", ["10115", "2000"])
    values.add("street", "address", ["Am Mühlbach 12"])
    values.add("comment", "text", [COMMENT, "good", "all good"])
    values.add("birthday", "id", ["1990-05-17"])
    return Redactor(values, ordinary=ordinary, pseudonyms=lambda tokens: {KEY} & set(tokens))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        *(
            (NAME, "name"),
            (NAME.upper(), "name"),
            (NAME.lower(), "name"),
            (NAME.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"), "name"),
        ),
        *(
            (escape(NAME), "name"),
            (NAME.replace("'", "&#39;"), "name"),
            (json.dumps(NAME), "name"),
            (repr(NAME.encode()), "name"),
        ),
        *((quote(NAME), "name"), (quote_plus(NAME), "name"), (ascii(NAME), "name"), (json.dumps(json.dumps([NAME])), "name")),
        *(("Zoë  \n   O'Kanarie-Müßig", "name"), ("zoë_o_kanarie_müßig", "name"), ("the name Kanarie alone", "name")),
        *(("Zo\x1b[1;31më O'Kanarie\x1b[0m-Müßig", "name"), ("Zoe\u0308 O'Kanarie-Mu\u0308ßig", "name")),
        *((EMAIL, "email"), (quote(EMAIL), "email"), (EMAIL.replace("@", "&#64;"), "email"), ("user zoe.okanarie", "email")),
        *((PHONE, "phone"), ("+493023125123", "phone"), ("030/23125-123", "phone"), ("0049 30 23125123", "phone")),
        *(("C-00042", "customer_id"), ("c_00042", "customer_id"), ("for 17850, it", "customer_id"), ("17850.0", "customer_id")),
        *(("born 1990-05-17", "birthday"), (COMMENT, "comment"), (COMMENT[:50], "comment"), (KEY, "customer_key")),
        ("Am Mühlbach 12", "street"),
    ],
)
def test_every_form_of_a_value_is_replaced_by_its_column(text: str, column: str) -> None:
    search = redactor()
    clean = search.redact_text(f"({text})")
    assert f"[redacted:{column}]" in clean
    assert sum(search.counts.values()) >= 1
    for part in ("kanarie", "23125", "00042", "17850", "neighbour", "mühlbach", "1990", "0f0f"):
        assert part not in clean.casefold()


@pytest.mark.parametrize("mark", ["...", "…", " ...", " [...]"])
@pytest.mark.parametrize("value", [NAME, EMAIL, "Am Mühlbach 12", COMMENT])
def test_truncated_value_is_redacted(value: str, mark: str) -> None:
    for kept in range(14, len(value)):
        clean = redactor().redact_text(f"0  {value[:kept]}{mark}  1")
        assert value[:6] not in clean, (kept, clean)
        assert clean.startswith("0 ")
        assert clean.endswith("1")


def test_end_of_a_value_after_an_ellipsis_is_redacted() -> None:
    assert redactor().redact_text("'...okanarie@example.com'") == "'...[redacted:email]'"
    assert redactor().redact_text("…Kanarie-Müßig") == "…[redacted:name]"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "goldfinch",
            "Zo",
            "1,785,017,850 rows",
            "0.17850",
            "17850.25",
            "10:17850",
            "daily-1990-05-1",
            "C-000421",
            "XC-00042",
        ),
        *("10115 rows, of which 2000 are new", "2000-01-01", "all good", "good", "null", "Jo and 123", "1990:05:17", "f0" * 16),
        *("It is all good ...", "the postal code ...", "2.0.2000", "Wait: golden ...", "Kan ..."),
    ],
)
def test_similar_texts_are_kept(text: str) -> None:
    search = redactor()
    assert search.redact_text(text) == text
    assert not search.counts


def test_postal_code_is_redacted_with_other_values_only() -> None:
    assert redactor().redact_text("10115") == "10115"
    assert redactor().redact_text(f"{NAME};10115;2025-11-30") == "[redacted:name];[redacted:postal_code];2025-11-30"


def test_ordinary_words_are_kept_as_written() -> None:
    search = redactor(ordinary={"gold"})
    assert search.redact_text("gold.daily_sales of Gold") == "gold.daily_sales of [redacted:name]"


def test_source_code_keeps_words_but_not_values() -> None:
    assert redactor().redact_text(f"gold = '{NAME}'  # Gold", exactly=True) == "gold = '[redacted:name]'  # Gold"


def test_redaction_is_idempotent() -> None:
    search = redactor()
    once = search.redact_text(f"{NAME} {EMAIL}")
    search.counts.clear()
    assert search.redact_text(once) == once
    assert not search.counts


def test_hits_are_counted_by_column() -> None:
    search = redactor()
    search.redact_text(f"{NAME}, {EMAIL} and {EMAIL}; pay DE89 3704 0044 0532 0130 00 or 4111111111111111")
    assert search.counts == {"name": 1, "email": 2, "iban": 1, "card": 1}


def test_every_part_of_a_notebook_is_redacted() -> None:
    row = {"name": NAME, "email": EMAIL, "phone": PHONE, "customer": "C-00042", "number": 17850, EMAIL: 1, "Kanarie": 2}
    html = f"<td>{escape(NAME)}</td>"
    result = {"outcome": "FAILED", "reasons": [f"no {NAME}"], "rows": {"in": 17850}, "details": {"warnings": [EMAIL]}}
    outputs = [
        new_output("stream", name="stdout", text=f"printed {NAME[:9]}"),
        new_output("stream", name="stdout", text=f"{NAME[9:]}\n"),
        new_output("stream", name="stderr", text=repr(row)),
        new_output("display_data", data={"text/html": html, "application/json": row, "image/svg+xml": f"<text>{NAME}</text>"}),
        new_output("display_data", data={"image/png": PNG, RESULT_MIME: result}, metadata={"title": NAME, "name": NAME}),
        new_output("error", ename="KeyError", evalue=repr(NAME), traceback=[f"\x1b[0;31mKeyError\x1b[0m: {NAME!r}", repr(row)]),
    ]
    injected = new_code_cell(f"failure = {json.dumps({'Cause': 'Gold'})!r}", metadata={"tags": ["injected-parameters"]})
    cells = [
        new_markdown_cell(f"Ask {EMAIL}"),
        injected,
        new_code_cell("gold = 1", outputs=outputs, metadata={"note": {"name": NAME}}),
    ]
    notebook = new_notebook(cells=cells, metadata={"papermill": {"exception": NAME, "parameters": {"failure": EMAIL}}})
    ids = [cell.id for cell in notebook.cells]
    search = redactor()

    search.redact_notebook(notebook)

    text = json.dumps(notebook, ensure_ascii=False)
    for part in ("Kanarie", "okanarie", "23125", "00042", 'Cause\\\\": \\\\"Gold'):
        assert part not in text
    assert [cell.id for cell in notebook.cells] == ids
    assert notebook.cells[2].source == "gold = 1"
    left = notebook.cells[2].outputs[3].data[RESULT_MIME]
    assert (left["outcome"], left["rows"], left["reasons"]) == ("FAILED", {"in": 17850}, ["no [redacted:name]"])
    assert notebook.cells[2].outputs[2].data["application/json"]["number"] == "[redacted:customer_id]"
    assert notebook.cells[2].outputs[3].data["image/png"] == PNG
    assert {"name", "email", "phone", "customer_id"} == set(search.counts)


def attempt(**changes: Any) -> dict[str, Any]:
    record = {
        "record": "attempt", "run_id": "daily-2025-11-30-1", "run_date": "2025-11-30", "env": "gold", "stage": "quality",
        "attempt": 1, "outcome": "REJECTED", "reasons": [f"{NAME} bought too much"], "rows": {"in": 17850},
        "parameters": {"run_date": "2025-11-30", "failure": EMAIL}, "inputs": [{"file": f"{EMAIL}/a.csv"}],
        "details": {EMAIL: 1, "warnings": [NAME]}, "failure": None, "code": {"commit": "abc"},
        "tables_read": {"gold.daily_sales": 3},
    }  # fmt: skip
    return {**record, **changes}


def test_texts_of_a_record_are_redacted_and_facts_kept() -> None:
    failure = {"cell": 3, "source": f"gold = '{NAME}'", "exception": "KeyError", "message": repr({"name": NAME})}
    clean = redactor().redact_record(attempt(failure=failure))
    assert clean["reasons"] == ["[redacted:name] bought too much"]
    assert clean["parameters"] == {"run_date": "2025-11-30", "failure": "[redacted:email]"}
    assert clean["inputs"] == [{"file": "[redacted:email]/a.csv"}]
    assert clean["details"] == {"[redacted:email]": 1, "warnings": ["[redacted:name]"]}
    assert clean["failure"] == {
        "cell": 3,
        "source": "gold = '[redacted:name]'",
        "exception": "KeyError",
        "message": "{'name': \"[redacted:name]\"}",
    }
    for fact in ("env", "rows", "code", "tables_read"):
        assert clean[fact] == attempt()[fact]


def test_withheld_record_keeps_facts_without_texts() -> None:
    failure = {"cell": 3, "source": NAME, "exception": f"KeyError: {NAME}", "message": NAME}
    kept = withhold_free_text(attempt(failure=failure), OSError(NAME))
    assert "Kanarie" not in json.dumps(kept, ensure_ascii=False)
    assert "okanarie" not in json.dumps(kept)
    assert (kept["outcome"], kept["rows"], kept["code"], kept["withheld"]) == (
        *("REJECTED", {"in": 17850}, {"commit": "abc"}),
        "OSError",
    )
    assert kept["failure"]["cell"] == 3
    assert kept["reasons"] == ["withheld: the search for personal data failed (OSError)."]


def test_withheld_notify_stage_keeps_the_run_outcome() -> None:
    details = {"run_outcome": "FAILED", "run_reasons": [NAME], "message": {"subject": "s", "body": NAME}, "summary": None}
    kept = withhold_free_text(attempt(details=details), ValueError())["details"]
    assert kept["run_outcome"] == "FAILED"
    assert "Kanarie" not in json.dumps(kept)
    assert kept["message"]["subject"] == "Daybook gold: 2025-11-30 FAILED"


def range_results() -> dict[str, Any]:
    failure = {"cell": 3, "source": NAME, "exception": "KeyError", "message": NAME}
    return {
        "2025-11-29": {"outcome": "SUCCEEDED", "reasons": [], "rows": {"in": 23125}, "details": {"warnings": [NAME]}},
        "2025-11-30": {"outcome": "FAILED", "reasons": [NAME], "inputs": [{"file": f"{EMAIL}/a.csv"}], "failure": failure},
    }


def test_texts_of_dates_are_redacted_and_facts_kept() -> None:
    clean = redactor().redact_record(attempt(dates=range_results()))["dates"]
    assert list(clean) == ["2025-11-29", "2025-11-30"]
    assert clean["2025-11-29"]["rows"] == {"in": 23125}
    assert clean["2025-11-29"]["details"] == {"warnings": ["[redacted:name]"]}
    assert clean["2025-11-30"]["failure"]["message"] == "[redacted:name]"
    assert "okanarie" not in json.dumps(clean)


def test_withheld_record_of_a_range_keeps_outcomes_of_dates() -> None:
    kept = withhold_free_text(attempt(dates=range_results(), until="2025-11-30"), OSError(NAME))
    assert "Kanarie" not in json.dumps(kept, ensure_ascii=False)
    assert "okanarie" not in json.dumps(kept)
    record = AttemptRecord.model_validate(kept)
    assert [(day, each.outcome) for day, each in record.dates.items()] == [
        ("2025-11-29", "SUCCEEDED"),
        ("2025-11-30", "FAILED"),
    ]
    assert record.dates["2025-11-29"].rows.rows_in == 23125
    dates = {"2025-11-30": {"run_id": "daily-2025-11-30-2", "outcome": "FAILED"}}
    run = {"record": "run", "run_id": "range-2025-11-29-2025-11-30-1", "reasons": [NAME], "dates": dates, "stages": []}
    assert withhold_free_text(run, OSError(NAME))["dates"] == dates


@pytest.mark.slow
def test_search_of_100_000_values_in_a_megabyte_is_fast() -> None:
    text = "".join(f"2025-11-30 10:00:00,{number:032x},O-{number},12.50,shipped\n" for number in range(14_000))
    assert len(text) > 1_000_000

    def redact(count: int) -> Callable[[], object]:
        values = PersonalValues()
        values.add("id", "id", (f"{number * 20_000:032x}" for number in range(count)))
        values.add("name", "name", (f"Person{number} Müller{number % 977}" for number in range(count)))
        return lambda: Redactor(values).redact_text(text)

    def seconds(work: Callable[[], object]) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    # In turn, so that other work on the machine slows all of them.
    rounds = [[seconds(work) for work in (lambda: re.findall(r"\w+", text), redact(500), redact(50_000))] for _ in range(3)]
    words, few, many = map(min, zip(*rounds))
    # Measured: 30 times the search for words, and 1.4 times the search with a hundredth of the values.
    assert many < 65 * words
    assert many < 3 * few


def test_base64_svg_is_redacted() -> None:
    def page(text: str) -> str:
        return f'<img src="data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"> and on'

    assert Redactor().redact_text(page("<svg><text>jane@example.com</text></svg>")) == page(
        "<svg><text>[redacted:email]</text></svg>"
    )
    assert Redactor().redact_text(page("<svg/>")) == page("<svg/>")


def test_keys_equal_after_redaction_stay_separate() -> None:
    clean = Redactor().redact_json({"a@example.com": 1, "[redacted:email]": 2, "b@example.com": 3})
    assert list(clean.values()) == [1, 2, 3]


def test_output_with_the_result_type_is_redacted() -> None:
    output = new_output("display_data", data={RESULT_MIME: f"by {NAME}"})
    notebook = new_notebook(cells=[new_code_cell("", outputs=[output])])
    redactor().redact_notebook(notebook)
    assert notebook.cells[0].outputs[0].data[RESULT_MIME] == "by [redacted:name]"
