"""Read the test cases of SQL cells from YAML files (``tests/sql/*.yaml``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Optional

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daybook.contracts.columns import find_duplicate_column
from daybook.errors import CaseError
from daybook.settings import TEXT_RESOLVERS, display_path, format_validation_error, list_files, project_root, read_yaml

_MAX_LINE = 1000
"""Length of lines in written cases: each row is on one line."""
Row = dict[str, Optional[str]]
"""Values by column, as they are written; None is NULL."""


class _CaseModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CaseDefaults(_CaseModel):
    """The keys of a file that apply to all of its cases, which may override them."""

    env: str = Field(default="local", description="The deployment whose settings and time zone apply.")
    notebook: str = Field(default="", description="The notebook with the cells: 4_aggregate.")
    table: str = Field(default="", description="The table or other name that a cell of the notebook defines.")
    parameters: Row = Field(default_factory=dict, description="The run date, settings and variables that cells name with $.")


class Case(CaseDefaults):
    """One test: the rows of ``table`` that the cells of ``notebook`` compute from the given rows."""

    name: str = Field(min_length=1)
    notebook: str = Field(min_length=1)
    table: str = Field(min_length=1)
    given: dict[str, list[Row]] = Field(default_factory=dict, description="Rows by table. Other inputs are empty.")
    expect: list[Row] = Field(description="The rows of the table, in any order, with the columns to compare.")
    columns: Optional[Literal["all"]] = Field(default=None, description="all: every row names every column of the table.")
    file: str = Field(default="", exclude=True)

    @property
    def where(self) -> str:
        """The file and the name of the case, for messages."""
        return f"{self.file}, case {self.name!r}"


def case_folder() -> Path:
    """Return the folder of the project's cases."""
    return project_root() / "tests" / "sql"


def list_case_files() -> list[Path]:
    """Return the project's files of cases."""
    return list_files(case_folder(), "*.yaml")


def read_cases(path: Path) -> list[Case]:
    """Read a file of cases.

    Raises
    ------
    CaseError
        The file does not have this form. The message names file, case and key.
    ParamsError
        The file cannot be read, or is not YAML.
    """
    file = display_path(path)
    content = read_yaml(path, as_text=True)
    listed = content.pop("cases", None)
    if not isinstance(listed, list) or not listed:
        raise CaseError(f"{file}: key 'cases' is no list of cases; write at least one, each with a name and expected rows.")
    defaults = _validate(CaseDefaults, content, file, [*CaseDefaults.model_fields, "cases"])
    cases = [_read_case(defaults, values, file, number) for number, values in enumerate(listed, start=1)]
    twice = find_duplicate_column([each.name for each in cases])
    if twice is not None:
        raise CaseError(f"{file}: two cases have the name {twice!r}; rename one.")
    return cases


def _read_case(defaults: CaseDefaults, values: Any, file: str, number: int) -> Case:
    if not isinstance(values, dict):
        raise CaseError(f"{file}: case {number} is no mapping; write keys such as name, given and expect.")
    where = f"{file}, case {values.get('name', number)!r}"
    parameters = values.get("parameters") or {}
    if isinstance(parameters, dict):
        parameters = {**defaults.parameters, **parameters}
    values = {**defaults.model_dump(exclude_defaults=True), **values, "parameters": parameters}
    case: Case = _validate(Case, values, where, [name for name in Case.model_fields if name != "file"])
    return case.model_copy(update={"file": file})


def _validate(model: Any, values: dict[str, Any], where: str, known: Sequence[str]) -> Any:
    """Return the validated model. Raise ``CaseError`` with file, case and key if a value is not valid."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise CaseError(format_validation_error(error, where, list(known))) from None


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write cases of one notebook and deployment to a file, a line for each row."""
    first = cases[0]
    content: dict[str, Any] = {"env": first.env} if first.env != CaseDefaults.model_fields["env"].default else {}
    content["notebook"] = first.notebook
    content["cases"] = [_format_case(case) for case in cases]
    text = yaml.dump(content, Dumper=_CaseDumper, sort_keys=False, allow_unicode=True, width=_MAX_LINE)
    path.write_text(text, encoding="utf-8")


def _format_case(case: Case) -> dict[str, Any]:
    values: dict[str, Any] = {"name": case.name, "table": case.table, "parameters": _Line(case.parameters)}
    values["given"] = {name: [_Line(row) for row in rows] for name, rows in case.given.items()}
    values["expect"] = [_Line(row) for row in case.expect]
    return values


class _Line(dict[str, Any]):
    """A mapping that is written as one line: {a: 1, b: 2}."""


class _CaseDumper(yaml.SafeDumper):
    """A writer of texts that ``read_cases`` reads: only a text that would be null needs quotes."""

    yaml_implicit_resolvers = TEXT_RESOLVERS


_CaseDumper.add_representer(
    _Line, lambda dumper, row: dumper.represent_mapping("tag:yaml.org,2002:map", row.items(), flow_style=True)
)


def suggest_names(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that does not exist: names near to it, or all."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known) or 'none'}."
