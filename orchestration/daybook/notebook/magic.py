"""Add ``%%sql`` to IPython, and keep cells from running after a stage has ended early (``%load_ext daybook``)."""

from __future__ import annotations

import ast
import math
import re
import threading
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from numbers import Integral
from typing import Any, Callable, Optional

import duckdb
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from daybook.engines import query_error
from daybook.errors import StageError, UsageError
from daybook.notebook import context as stages
from daybook.notebook.display import Listing
from daybook.notebook.sql_cells import parse_options
from daybook.records.names import RESULT_MIME
from daybook.settings import Settings
from daybook.sources.mapping import literal

_PLAIN_TYPES = (str, Integral, float, Decimal, date, type(None))
"""Types of values that ``$name`` takes from the notebook and the settings."""
_PANDAS_NULL_TYPES = ("NaTType", "NAType")
"""Types of the values that a DataFrame has for NULL, by name: a notebook need not import pandas."""
_TOKEN = re.compile(
    r"""
      (?P<text> \b[eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | "(?:""|[^"])*" | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | \{\{ (?P<expression>.+?) \}\}
    | (?<![\w$])\$(?P<name>[A-Za-z_]\w*)
    """,
    re.DOTALL | re.VERBOSE,
)
"""What may hold a ``$`` or braces in SQL: quoted text, a comment, an expression, a name."""


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%%sql`` and the hooks of a session."""
    _Extension(shell)


class _Extension:
    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        shell.register_magic_function(self.sql, magic_kind="cell", magic_name="sql")  # type: ignore[call-arg,arg-type]
        shell.ast_transformers.append(_SkipAfterEnd())
        shell.events.register("post_run_cell", _show_partial_result)
        shell.observe(_raise_exit, "exit_now")

    def sql(self, line: str, cell: str) -> Optional[Listing]:
        """``%%sql [name] [--as NAME] [--rows N] [--quiet]``: run a SELECT, or define it under a name, and show its first rows.

        ``--as NAME`` also assigns all rows to a pandas DataFrame. ``$name`` is a parameter of the notebook, another of its
        variables or a setting; ``{{ expression }}`` is any Python expression. Both become literals of their type.
        """
        stage = stages.current
        if stage is None:
            raise StageError("%%sql needs an open stage; run the cell with begin(...) first.")
        options = parse_options(line)
        values = named_values(stage.settings, stage.run_date, stage.until, self.shell.user_ns)
        text = bind_values(cell, values, self.shell.ev).strip().rstrip(";")
        if options.name:
            stage.define(options.name, text)
            text = f"SELECT * FROM {options.name}"
        if options.quiet and not options.frame:
            return None
        # Keep the rows of a named query: later cells read them again.
        total = stage.engine.materialize(options.name) if options.name else None
        try:
            if options.frame:
                frame = stage.engine.query(text).df()
                self.shell.user_ns[options.frame] = frame
                if options.quiet:
                    return None
                total = len(frame)
            result = stage.engine.query(text)
            if total is None and not re.search(r"\blimit\b", text.lower()):
                total = result.aggregate("count(*)").fetchall()[0][0]
            # Without the limit DuckDB computes and holds all rows.
            rows = result.limit(options.rows).fetchall()
        except duckdb.Error as error:
            raise query_error(error) from None
        shares = [name for name in result.columns if re.search(r"(^|_)(share|retention)$", name)]
        return Listing(result.columns, rows, percent=shares, total=total, shorten_pseudonyms=True)


def bind_values(sql: str, values: Mapping[str, Any], evaluate: Callable[[str], Any]) -> str:
    """Replace ``$name`` and ``{{ expression }}`` by literals, except in quoted text and comments."""

    def bind(found: re.Match[str]) -> str:
        if found["text"]:
            if re.search(r"\{\{.+?\}\}", found["text"]):
                raise UsageError(
                    f"%%sql does not replace an expression inside the quoted text {found['text']}; "
                    "write it outside the quotes, for example '%' || {{ name }} || '%'."
                )
            return found[0]
        if found["expression"]:
            return _format_literal(evaluate(found["expression"].strip()))
        if found["name"]:
            if found["name"] not in values:
                raise _unknown_name_error(found["name"], values)
            return _format_literal(values[found["name"]])
        return found[0]

    return _TOKEN.sub(bind, sql)


def named_values(settings: Settings, run_date: date, until: date, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``$name`` may name: settings, the notebook's variables over them, and the first and last date as dates."""
    named: dict[str, Any] = dict(settings)
    named.update((name, value) for name, value in variables.items() if not name.startswith("_"))
    named.update(run_date=run_date, until=until)
    return {name: value for name, value in named.items() if isinstance(value, _PLAIN_TYPES)}


def _unknown_name_error(name: str, values: Mapping[str, Any]) -> UsageError:
    close = get_close_matches(name, values, n=1)
    meant = f"did you mean ${close[0]}?" if close else "assign it in a cell, or write {{ expression }}."
    return UsageError(f"%%sql: ${name} is no parameter, variable or setting with a plain value; {meant}")


def _format_literal(value: Any) -> str:
    """Return a value as a SQL literal of its type; other objects become their text."""
    if value is None or type(value).__name__ in _PANDAS_NULL_TYPES:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else f"CAST('{value}' AS DOUBLE)"
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, datetime):
        return f"{'TIMESTAMP' if value.tzinfo is None else 'TIMESTAMPTZ'} '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    return literal(str(value))


class _SkipAfterEnd(ast.NodeTransformer):
    """Replace a cell by a note once its stage has ended early, unless the cell sets parameters or opens a stage."""

    def visit_Module(self, cell: ast.Module) -> ast.Module:
        stage = stages.current
        if stage is None or stage.ended not in ("SKIPPED", "REJECTED") or _opens_stage(cell) or _only_assigns(cell):
            return cell
        return ast.parse(f"print('Not run: the stage has ended as {stage.ended}.')")


def _opens_stage(cell: ast.Module) -> bool:
    """Return whether a cell calls ``begin``."""
    called = (node.func for node in ast.walk(cell) if isinstance(node, ast.Call))
    return any(getattr(each, "id", getattr(each, "attr", "")) == "begin" for each in called)


def _only_assigns(cell: ast.Module) -> bool:
    """Return whether a cell only assigns literals, as a parameters cell does."""
    for each in cell.body:
        if not isinstance(each, (ast.Assign, ast.AnnAssign)) or each.value is None:
            return False
        try:
            ast.literal_eval(each.value)
        except ValueError:
            return False
    return True


def _raise_exit(change: dict[str, Any]) -> None:
    """Fail a cell that shuts its kernel down (``exit()``, ``do_shutdown``), as ``sys.exit()`` does.

    Otherwise the kernel ends while a later cell runs, and that cell gets the blame. A request from Jupyter arrives in another
    thread.
    """
    if change["new"] and threading.current_thread() is threading.main_thread():
        raise SystemExit


def _show_partial_result(result: Any) -> None:
    """Display what the stage has read and written after a cell that failed, for the record of the attempt."""
    stage = stages.current
    if result.error_in_exec is None or stage is None or stage.ended:
        return
    unfinished = stage.result("FAILED", [], {})
    display({RESULT_MIME: unfinished, "text/plain": "The stage was not finished."}, raw=True)
