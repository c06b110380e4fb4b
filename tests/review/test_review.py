"""Test ``daybook review`` on a git repository with a copy of the project."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt

from daybook.review.markdown import MAX_CHARACTERS
from tests.review.conftest import Repository, RunCommand

RETURNING = "CASE WHEN f.first_order_date < c.order_date THEN"
CHANGED = "CASE WHEN f.first_order_date <= c.order_date - 30 THEN"


def section(comment: str, heading: str) -> str:
    """Return a part of a comment, by its heading of level 3."""
    return comment.partition(f"### {heading}\n")[2].partition("\n### ")[0]


def test_cell_is_a_diff_under_its_heading(repository: Repository, review: RunCommand) -> None:
    repository.replace_in_cell("4_aggregate", RETURNING, CHANGED)
    code, comment, _ = review("HEAD")
    assert code == 0
    notebooks = section(comment, "Notebooks")
    assert "#### `notebooks/4_aggregate.ipynb`\n\n**Daily sales** · `gold.daily_sales` changed\n```diff\n" in notebooks
    changed = [line for line in notebooks.splitlines() if line.startswith(("+", "-"))]
    assert changed == [
        f"-    COUNT(DISTINCT {RETURNING} c.customer_key END) AS returning_customers",
        f"+    COUNT(DISTINCT {CHANGED} c.customer_key END) AS returning_customers",
    ]
    assert "| `gold.daily_sales` | `returning_customers` | `gold.daily_sales` | – |" in section(comment, "Affected columns")
    assert "Other files" not in comment


def test_commits_are_compared_without_the_working_tree(repository: Repository, review: RunCommand) -> None:
    repository.replace_in_cell("4_aggregate", RETURNING, CHANGED)
    head = repository.commit()
    repository.replace("params/local.yaml", "currency: EUR", "currency: USD")
    _, comment, _ = review("main~1..main")
    assert f"to `main` ({head[:7]}): 1 changed cell." in comment
    assert f"to `{head[:7]}`: 1 changed cell." in review(f"main~1..{head}")[1]
    assert "currency" not in comment
    _, comment, _ = review("main")
    assert "| `currency` | `EUR` | `USD` |" in comment
    assert "Notebooks" not in comment


def test_three_dots_leave_out_later_commits_of_the_base(repository: Repository, review: RunCommand) -> None:
    repository.git("checkout", "--quiet", "-b", "change")
    repository.replace("params/local.yaml", "currency: EUR", "currency: USD")
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.replace("params/local.yaml", "title: Demo shop", "title: Shop")
    repository.commit()
    assert "title" in review("main..change")[1]
    _, comment, _ = review("main...change")
    assert "currency" in comment
    assert "title" not in comment


def test_outputs_ids_and_metadata_never_appear(repository: Repository, review: RunCommand) -> None:
    path = repository.root / "notebooks" / "4_aggregate.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"newid{number}"
        cell.metadata["note"] = "newmetadata"
        if cell.cell_type == "code":
            cell.execution_count = 987654
            cell.outputs = [nbformat.v4.new_output("stream", text="newoutput")]
    nbformat.write(notebook, path)
    _, comment, _ = review("HEAD")
    assert "newid" not in comment
    assert "newmetadata" not in comment
    assert "newoutput" not in comment
    assert "987654" not in comment
    assert "Notebooks" not in comment
    assert "`notebooks/4_aggregate.ipynb`" in section(comment, "Other files")


def test_contract_lists_columns_and_rules(repository: Repository, review: RunCommand) -> None:
    file = "params/contracts/gold/daily_sales.yaml"
    repository.replace(file, "days: 28", "days: 35")
    repository.replace(file, "physicalType: BIGINT", "physicalType: INTEGER")
    repository.replace(file, "      - name: units\n", "      - name: sold\n")
    repository.replace(file, "query: >-\n          SELECT COUNT(*) FROM ${object} WHERE new", "query: SELECT 1 + new")
    _, comment, _ = review("HEAD")
    changes = section(comment, "Contracts and params")
    assert "| column `orders` · rule `custom` · `implementation.days` | `28` | `35` |" in changes
    assert "| column `orders` · `physicalType` | `BIGINT` | `INTEGER` |" in changes
    assert "| column `units` | `{name: units, " in changes
    assert "| column `sold` | – | `{name: sold, " in changes
    assert "| rule `a customer counts once` · `query` | `SELECT COUNT(*)" in changes
    # The contract of a column affects that column.
    assert "| `gold.daily_sales` | `orders` | `gold.daily_sales.orders` | – |" in section(comment, "Affected columns")


def test_changed_setting_affects_the_cells_that_read_it(repository: Repository, review: RunCommand) -> None:
    repository.replace("params/local.yaml", "returns_count_on: order_date", "returns_count_on: return_date")
    _, comment, _ = review("HEAD")
    affected = section(comment, "Affected columns")
    assert "| `gold.daily_sales` | all columns | – | `$returns_count_on` |" in affected
    assert "payment_mix" not in affected
    assert '["$returns_count_on"]:::changed' in affected


@pytest.mark.parametrize(
    ("source", "entity", "old", "new"),
    [
        ("demo", "orders", "        status: status", "        status: upper(status)"),
        ("online_retail", "invoices", "InvoiceNo LIKE 'C%' THEN 'cancelled'", "InvoiceNo LIKE 'C%' THEN 'adjustment'"),
    ],
)
def test_changed_mapping_affects_the_columns_it_fills(
    repository: Repository, review: RunCommand, source: str, entity: str, old: str, new: str
) -> None:
    repository.replace(f"params/sources/{source}.yaml", old, new)
    _, comment, _ = review("HEAD")
    assert f"#### `params/sources/{source}.yaml`" in comment
    assert f"| `mapping.orders.{entity}.columns.status` | `" in comment
    assert "| `silver.orders` | `status` | `mapped.orders.status` | – |" in comment
    assert "| `gold.payment_mix` | all columns | – | `mapped.orders.status` |" in comment


def test_changed_condition_of_a_mapping_affects_its_tables(repository: Repository, review: RunCommand) -> None:
    repository.replace("params/sources/online_retail.yaml", "where: CustomerID IS NOT NULL", "where: CustomerID <> '0'")
    _, comment, _ = review("HEAD")
    assert "| `mapping.customers.invoices.where` | `CustomerID IS NOT NULL` | `CustomerID <> '0'` |" in comment
    assert "| `silver.customers` | `customer_key`, `country`, " in comment


def test_secrets_never_appear(repository: Repository, review: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "ghp_" + "a1B2" * 9
    monkeypatch.setenv("SHOP_PASSWORD", "correcthorse")
    repository.replace_in_cell("4_aggregate", "# 4 · Aggregate", f"# 4 · Aggregate {token} correcthorse")
    repository.replace(
        "params/local.yaml", "title: Demo shop", f"title: {token}\ndb_password: hunter2222\nmore: {{api_key: swordfish}}"
    )
    repository.write("params/new.yaml", f"title: {token}\nmore:\n  db_password: hunter2222\n")
    _, comment, _ = review("HEAD")
    assert "Aggregate \\(not shown\\) \\(not shown\\)" in comment
    assert "| `db_password` | – | `(not shown)` |" in comment
    assert "+title: (not shown)\n+more:\n+  db_password: (not shown)" in comment
    for secret in (token, "correcthorse", "hunter2222", "swordfish"):
        assert secret not in comment


def test_other_files_have_their_numbers_of_lines(repository: Repository, review: RunCommand) -> None:
    repository.replace("orchestration/daily.asl.json", "{\n", "{\n\n\n")
    repository.write("notes.txt", "one\ntwo")
    (repository.root / "logo.png").write_bytes(b"\0")
    _, comment, _ = review("HEAD")
    rows = [line for line in section(comment, "Other files").splitlines() if line.startswith("| `")]
    assert rows == [
        "| `orchestration/daily.asl.json` | +2 | 0 |",
        "| `logo.png` | not text | 0 |",
        "| `notes.txt` | +2 | 0 |",
    ]


def test_long_comment_is_cut_with_a_sentence(repository: Repository, review: RunCommand) -> None:
    long = "\n".join(f"line {number} of a long text | with `marks`" for number in range(4000))
    repository.replace_in_cell("4_aggregate", "# 4 · Aggregate", f"# 4 · Aggregate\n{long}")
    repository.replace_in_cell("4_aggregate", RETURNING, CHANGED)
    _, comment, _ = review("HEAD")
    assert MAX_CHARACTERS * 0.8 < len(comment) <= MAX_CHARACTERS
    assert "more lines are not shown: the comment would be too long._" in comment
    assert f"+    COUNT(DISTINCT {CHANGED}" in comment
    assert "`gold.daily_sales`" in section(comment, "Affected columns")
    fences = [token for token in MarkdownIt().parse(comment) if token.type == "fence"]
    assert [token.info for token in fences] == ["diff", "diff"]


def test_unreadable_file_is_a_note(repository: Repository, review: RunCommand) -> None:
    repository.write("params/olist.yaml", "title: [\n")
    repository.write("notebooks/6_notify.ipynb", "{")
    code, comment, _ = review("HEAD")
    assert code == 0
    assert "**Note:** params/olist.yaml, line 2: not valid YAML" in comment
    assert "**Note:** 6\\_notify.ipynb is not a notebook" in comment
    assert "### Notebooks" not in comment
    assert "`params/olist.yaml`" in section(comment, "Other files")


def test_nothing_changed_is_said(review: RunCommand) -> None:
    code, comment, _ = review("HEAD..HEAD")
    assert code == 0
    assert "no difference. By the SQL of the notebooks, no column of silver or gold is affected." in comment


def test_output_is_written_to_a_file(repository: Repository, review: RunCommand, tmp_path: Path) -> None:
    target = tmp_path / "comment.md"
    code, out, _ = review("HEAD", "--output", str(target))
    assert (code, out) == (0, "")
    assert target.read_text(encoding="utf-8").startswith("<!-- daybook review -->\n## What this change does\n")
    code, _, err = review("HEAD", "--output", str(tmp_path / "absent" / "comment.md"))
    assert code == 2
    assert err.count("\n") == 1


@pytest.mark.parametrize("revisions", ["nowhere", "main..nowhere", "nowhere...main", "--all", "main:params"])
def test_unknown_revision_is_one_sentence(review: RunCommand, revisions: str) -> None:
    code, out, err = review("--", revisions)
    assert (code, out) == (2, "")
    assert "is no revision of this repository; name a commit, branch or tag" in " ".join(err.split())


def test_folder_without_repository_is_a_usage_error(
    repository: Repository, review: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.root.parent))
    (repository.root / ".git").rename(repository.root / "git")
    code, _, err = review("HEAD")
    assert code == 2
    assert "not a git repository" in err


def test_project_in_a_folder_of_a_repository_is_compared(
    repository: Repository, review: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Repository(repository.root.parent)
    (repository.root / ".git").rename(parent.root / ".git")
    parent.commit("Move the project into a folder")
    repository.replace("params/local.yaml", "currency: EUR", "currency: USD")
    repository.write("notes.txt", "one\n")
    parent.write("elsewhere.txt", "two\n")
    _, comment, _ = review("HEAD")
    assert "#### `params/local.yaml`" in comment
    assert "`notes.txt`" in comment
    assert "elsewhere" not in comment


def test_layout_of_a_query_is_no_change_of_it(repository: Repository, review: RunCommand) -> None:
    repository.replace_in_cell("4_aggregate", "SELECT * FROM touched_orders", "SELECT *  FROM touched_orders")
    _, comment, _ = review("HEAD")
    assert "**The lines and orders of those dates** · `counted` changed, with the same query\n```diff" in comment
    assert "no column of silver or gold is affected" in comment


def test_new_table_is_affected_as_a_whole(repository: Repository, review: RunCommand) -> None:
    contract = (repository.root / "params/contracts/gold/payment_mix.yaml").read_text(encoding="utf-8")
    repository.write("params/contracts/gold/method_mix.yaml", contract.replace("payment_mix", "method_mix"))
    path = repository.root / "notebooks" / "4_aggregate.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    mix = next(cell for cell in notebook["cells"] if "".join(cell["source"]).startswith("%%sql gold.payment_mix"))
    source = "".join(mix["source"]).replace("payment_mix", "method_mix")
    notebook["cells"].insert(-2, {**mix, "id": "method-mix", "source": source})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    _, comment, _ = review("HEAD")
    assert "`gold.method_mix` added\n```diff" in comment
    assert "#### `params/contracts/gold/method_mix.yaml` added\n\n```diff\n+apiVersion: v3.1.0\n" in comment
    assert "| `gold.method_mix` | all columns | – | `gold.method_mix` |" in comment
