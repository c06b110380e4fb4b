"""Find tables and columns of the canonical model by the roles that their contracts declare."""

from __future__ import annotations

from daybook.contracts.columns import column_key, find_column
from daybook.contracts.files import load_tables
from daybook.contracts.model import Affects, BusinessDate, Table
from daybook.errors import ContractError


def silver_table(name: str) -> Table:
    """Return the contract of a silver table by its bare name."""
    return load_tables("silver")[f"silver.{name}"]


def business_date_table() -> Table:
    """Return the silver table whose rows decide about business dates.

    Raises
    ------
    ContractError
        If not exactly one contract declares ``businessDate``, or its table has no key of one column.
    """
    return _find_business_date()[0]


def business_date_column() -> str:
    """Return the column of the business date, which gold and the tables of stale dates have under the same name."""
    return _find_business_date()[1].column


def business_date_instant() -> str:
    """Return the column of the table with the business date whose local day that date is."""
    return _find_business_date()[1].local_day_of


def _find_business_date() -> tuple[Table, BusinessDate]:
    found = [(table, table.roles.business_date) for table in load_tables("silver").values() if table.roles.business_date]
    if len(found) != 1:
        declared = " and ".join(table.file for table, _ in found) or "none"
        raise ContractError(
            f"One contract in params/contracts/silver must have the custom property businessDate; these have it: {declared}."
        )
    if len(found[0][0].key) != 1:
        raise ContractError(f"{found[0][0].file}: a table with businessDate needs a primary key of one column.")
    return found[0]


def subject_column() -> str:
    """Return the column of silver with the pseudonym of a person, for whom rows are erased.

    Raises
    ------
    ContractError
        If not exactly one column of the silver tables has the custom property ``subject: true``.
    """
    found = {name for table in load_tables("silver").values() for name in table.columns_with("subject")}
    if len(found) != 1:
        declared = " and ".join(sorted(found)) or "none"
        raise ContractError(
            "One column in params/contracts/silver must have the custom property subject: true (the pseudonym of a person); "
            f"these have it: {declared}."
        )
    return found.pop()


def headline_figure() -> str:
    """Return the gold column with the custom property ``headline: true``, which the report draws by date; or an empty text."""
    return next((name for table in load_tables("gold").values() for name in table.columns_with("headline")), "")


def affected_dates(table: Table) -> list[Affects]:
    """Return which business dates a change of a silver table makes stale.

    A table that declares nothing affects the dates of the rows that it refers to by a foreign key.

    Raises
    ------
    ContractError
        If the contract declares no dates and refers to no table with dates, or declares dates that do not exist.
    """
    declared = table.roles.affects
    dated = business_date_table()
    if declared is None:
        reference = reference_to(table, dated)
        if not reference:
            raise ContractError(
                f"{table.file}: {table.name!r} needs the custom property affects: which business dates a changed row makes "
                "stale, for example {dates_of: a column}, or [] for none."
            )
        return [Affects(dates_of=reference)]
    for each in declared:
        problem = _find_problem(table, each, dated)
        if problem:
            raise ContractError(f"{table.file}: the custom property affects of {table.name!r} {problem}.")
    return declared


def has_own_dates(table: Table, affects: Affects) -> bool:
    """Return whether ``dates_of`` is a date or an instant of the row itself, not a reference."""
    return not affects.through and table.type_of(column_name(table, affects.dates_of)) in ("DATE", "TIMESTAMPTZ")


def column_name(table: Table, name: str) -> str:
    """Return the name of a column as the contract writes it."""
    return find_column(table.columns, name) or name


def reference_to(table: Table, other: Table) -> str:
    """Return the column of a table that refers to the key of another, or an empty text."""
    return next((name for name in table.columns if reference_to_key(table, name, other)), "")


def reference_to_key(table: Table, column: str, other: Table) -> bool:
    """Return whether a column is a foreign key to another table's primary key of one column."""
    if len(other.key) != 1:
        return False
    target = column_key(f"{other.name}.{other.key[0]}")
    found = next(item for item in table.properties if item.name == column_name(table, column))
    return any(column_key(each.to) == target for each in found.relationships)


def _find_problem(table: Table, affects: Affects, dated: Table) -> str:
    """Return why the declared dates do not exist, or an empty text."""
    if affects.first_of and table.full_name != dated.full_name:
        return f"has first_of, which only {dated.name!r} can have; remove it"
    if not affects.through:
        if has_own_dates(table, affects) or reference_to_key(table, affects.dates_of, dated):
            return ""
        return f"has dates_of {affects.dates_of!r}, which must be a date, an instant, or a foreign key to {dated.name!r}"
    tables = load_tables("silver")
    through = tables.get(f"silver.{affects.through}")
    if through is None:
        return f"goes through {affects.through!r}; the silver tables are: {', '.join(each.name for each in tables.values())}"
    if reference_to(through, table) and reference_to(through, dated):
        return ""
    return (
        f"goes through {affects.through!r}, which must refer to {table.name!r} and to {dated.name!r} by relationships; "
        "add them to its contract"
    )
