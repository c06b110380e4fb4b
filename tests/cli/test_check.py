"""Test that ``daybook check`` finds each kind of error in the files of the project, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from daybook.cli.check import check_project
from daybook.errors import UsageError
from daybook.settings import list_files, project_root

NOTEBOOK = "notebooks/3_transform.ipynb"


def problems(*files):
    """Return the problems by file, without valid files; of all files if none is given."""
    checked = check_project([project_root() / each for each in files])
    return {each.file: each.problems for each in checked if each.problems}


@pytest.fixture
def edit(project):
    """Return a function that changes the transform notebook with ``change(notebook)`` and saves it."""

    def call(change):
        path = project.root / NOTEBOOK
        notebook = nbformat.read(path, as_version=4)
        change(notebook)
        nbformat.write(notebook, path)

    return call


def test_project_has_no_problems():
    assert problems() == {}


def test_every_file_that_a_run_needs_is_checked():
    root = project_root()
    patterns = ("params/*.yaml", "params/*/*.yaml", "params/*/*/*.yaml", "notebooks/*.ipynb", "orchestration/*.asl.json")
    expected = {path.relative_to(root).as_posix() for path in list_files(root, *patterns)}
    assert {each.file for each in check_project()} == expected


def test_check_writes_no_files(project, tmp_path, monkeypatch):
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    project.replace("params/sources/demo.yaml", "LEFT JOIN categories", "LEFT JOIN nowhere")
    before = set(project.root.rglob("*"))
    assert list(problems()) == ["params/sources/demo.yaml"]
    assert list(working.iterdir()) == []
    assert set(project.root.rglob("*")) == before


def test_params_file_with_an_unknown_key_is_found(project):
    project.replace("params/olist.yaml", "title:", "colour: red\ntitle:")
    (found,) = problems("params/olist.yaml")["params/olist.yaml"]
    assert found.startswith("params/olist.yaml: there is no key 'colour'; the keys are: title, ")


def test_params_file_with_an_unknown_source_is_found(project):
    project.replace("params/olist.yaml", "source: olist", "source: olits")
    assert problems() == {
        "params/olist.yaml": ["There is no params/sources/olits.yaml; the sources are: demo, olist, online_retail."]
    }


def test_invalid_contract_is_found(project):
    project.replace("params/contracts/gold/payment_mix.yaml", "kind: DataContract\n", "")
    assert problems("params/contracts/gold/payment_mix.yaml")["params/contracts/gold/payment_mix.yaml"] == [
        "params/contracts/gold/payment_mix.yaml: key 'kind' is missing; add it."
    ]


def test_invalid_yaml_is_found_with_its_line(project):
    project.replace("params/olist.yaml", "title:", "title: again\ntitle:")
    assert problems("params/olist.yaml")["params/olist.yaml"] == [
        "params/olist.yaml, line 4: not valid YAML (duplicate key 'title'); fix that line."
    ]


LANDING = "params/contracts/landing/demo.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (LANDING, "updated_at < ordered_at", "updated_at < placed_at", "rule 'an order is not changed before it is placed'"),
        (LANDING, "FROM order_items) THEN", "FROM lines) THEN", "rule 'new orders have lines' cannot be run"),
        ("params/contracts/gold/daily_sales.yaml", "> orders", "> sales", "rule 'a customer counts once' cannot be run"),
        ("params/contracts/silver/orders.yaml", "mustBe: 0", "mustBe: zero", "is 'zero': it should be a valid integer"),
    ],
)
def test_rule_with_invalid_sql_is_found_with_its_file(project, file, old, new, message):
    project.replace(file, old, new)
    (found,) = problems(file)[file]
    assert found.startswith(f"{file}: ")
    assert message in found


def test_landing_contract_without_a_source_is_found(project):
    text = (project.root / LANDING).read_text(encoding="utf-8")
    project.write("params/contracts/landing/bakery.yaml", text)
    (found,) = problems("params/contracts/landing/bakery.yaml")["params/contracts/landing/bakery.yaml"]
    assert found.endswith("no params/sources/bakery.yaml exists; give the contract the name of its source.")


def test_mapping_with_invalid_sql_is_found(project):
    project.replace("params/sources/olist.yaml", "unit_price: price", "unit_price: prize")
    (found,) = problems("params/sources/olist.yaml")["params/sources/olist.yaml"]
    assert found.startswith("params/sources/olist.yaml: mapping of 'order_items': Binder Error: ")


def test_mapping_to_an_unknown_column_is_found(project):
    project.replace("params/sources/olist.yaml", "unit_price: price", "price: price")
    (found,) = problems("params/sources/olist.yaml")["params/sources/olist.yaml"]
    assert found.startswith("params/sources/olist.yaml: mapping of 'order_items' has a column 'price'; the columns are: ")


def test_missing_notebook_is_found(project):
    (project.root / NOTEBOOK).unlink()
    assert problems() == {NOTEBOOK: ["3_transform.ipynb is missing; every stage needs its notebook."]}


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}", '{"nbformat": 4, "cells": 1}', '{"nbformat": 99}'])
def test_file_that_is_not_a_notebook_is_found(project, text):
    project.write(NOTEBOOK, text)
    (found,) = problems(NOTEBOOK)[NOTEBOOK]
    assert found.startswith("3_transform.ipynb is not a notebook (")


def test_notebook_with_outputs_is_found(edit):
    def run(notebook):
        next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = 1

    edit(run)
    assert problems(NOTEBOOK) == {NOTEBOOK: ["contains outputs; clear them (Kernel > Restart & Clear) before you commit"]}


def test_notebook_without_a_title_is_found(edit):
    edit(lambda notebook: notebook.cells.pop(0))
    assert problems(NOTEBOOK) == {
        NOTEBOOK: ["does not begin with a title; make the first cell markdown that begins with '# '"],
    }


def _parameters(notebook):
    return next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))


def test_notebook_without_parameters_is_found(edit):
    edit(lambda notebook: _parameters(notebook).metadata.tags.remove("parameters"))
    assert problems(NOTEBOOK) == {
        NOTEBOOK: ["3_transform.ipynb has 0 cells tagged 'parameters'; it needs one, the first code cell."]
    }


def test_missing_parameter_is_found(edit):
    edit(
        lambda notebook: _parameters(notebook).update(
            source='env = "local"\nrun_date = "2025-11-30"\nuntil = ""\noverrides = {}'
        )
    )
    assert problems(NOTEBOOK) == {
        NOTEBOOK: ["3_transform.ipynb has no parameter 'run_id'; its parameters are: env, run_date, until, overrides."]
    }


def test_parameter_of_a_wrong_type_is_found(edit):
    edit(
        lambda notebook: _parameters(notebook).update(source=_parameters(notebook).source.replace('run_id = ""', "run_id = 0"))
    )
    assert problems(NOTEBOOK) == {NOTEBOOK: ["3_transform.ipynb: parameter run_id is '', a str; it must be a int."]}


def test_unknown_parameter_is_found(edit):
    edit(lambda notebook: _parameters(notebook).update(source=_parameters(notebook).source + '\nshop = "x"'))
    assert problems(NOTEBOOK) == {
        NOTEBOOK: ["declares the parameter 'shop', which no run passes; remove it, or pass it in daybook.execution.stage"]
    }


def test_computed_parameter_is_found(edit):
    edit(lambda notebook: _parameters(notebook).update(source="run_date = today()"))
    assert problems(NOTEBOOK) == {
        NOTEBOOK: ["3_transform.ipynb: the parameters cell may only hold lines such as name = 'text'; fix it."]
    }


def test_state_with_an_unknown_next_state_is_found(project):
    path = project.root / "orchestration/daily.asl.json"
    machine = json.loads(path.read_text())
    name, state = next((name, state) for name, state in machine["States"].items() if "Next" in state)
    state["Next"] = "Nowhere"
    path.write_text(json.dumps(machine))
    (found, *_) = problems("orchestration/daily.asl.json")["orchestration/daily.asl.json"]
    assert found.startswith(f"state {name}: ")
    assert "Nowhere" in found


def test_state_machine_with_invalid_json_is_found(project):
    project.write("orchestration/daily.asl.json", "{")
    assert list(problems()) == ["orchestration/daily.asl.json"]


def test_files_have_paths_relative_to_the_project():
    assert [each.file for each in check_project([project_root() / NOTEBOOK])] == [NOTEBOOK]


def test_named_files_are_checked_in_order(project):
    files = [project.root / "params/local.yaml", project.root / NOTEBOOK]
    assert [each.file for each in check_project(files)] == ["params/local.yaml", NOTEBOOK]


def test_named_file_may_be_relative_to_the_working_folder(project, monkeypatch):
    monkeypatch.chdir(project.root / "params")
    assert [each.file for each in check_project([Path("local.yaml")])] == ["params/local.yaml"]


def test_file_that_no_run_depends_on_is_refused(project):
    with pytest.raises(UsageError, match=r"No run depends on a file README\.md; name a file of params/"):
        list(check_project([Path("README.md")]))


def test_folder_of_the_project_may_be_a_link(project, tmp_path):
    elsewhere = tmp_path / "machines"
    (project.root / "orchestration").rename(elsewhere)
    (project.root / "orchestration").symlink_to(elsewhere)
    assert [each.file for each in check_project([project.root / "orchestration/daily.asl.json"])] == [
        "orchestration/daily.asl.json"
    ]
