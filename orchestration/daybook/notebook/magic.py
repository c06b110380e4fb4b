"""The IPython extension: ``%load_ext daybook`` gives ``%%sql``, and keeps cells from running after a stage has ended."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import threading
from typing import Any, Optional

import duckdb
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from daybook.engines import query_error
from daybook.errors import StageError, UsageError
from daybook.notebook import context as stages
from daybook.notebook.display import Listing
from daybook.records.names import RESULT_MIME

_DEFAULT_ROWS = 10


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%%sql`` and the hooks of a session."""
    _Extension(shell)


class _Extension:
    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        shell.register_magic_function(self.sql, magic_kind="cell", magic_name="sql")  # type: ignore[call-arg,arg-type]
        shell.input_transformers_cleanup.append(_skip_after_end)
        shell.events.register("post_run_cell", _show_partial_result)
        shell.observe(_raise_exit, "exit_now")

    def sql(self, line: str, cell: str) -> Optional[Listing]:
        """``%%sql [name] [--rows N] [--quiet]``: run a SELECT, or give it a name, and show its first rows.

        ``{{ expression }}`` in the text is replaced by its value in Python: a date or text becomes a quoted literal.
        """
        stage = stages.current
        if stage is None:
            raise StageError("%%sql needs an open stage; run the cell with begin(...) first.")
        options = _parse_line(line)
        text = (
            re.sub(r"\{\{(.+?)\}\}", lambda found: _format_literal(self.shell.ev(found[1].strip())), cell).strip().rstrip(";")
        )
        if options.name:
            stage.engine.define(options.name, text)
            stage.definitions[options.name] = text
            text = f"SELECT * FROM {options.name}"
        if options.quiet:
            return None
        # What is shown is run here and now, once, and what reads it later need not do so again.
        total = stage.engine.materialize(options.name) if options.name else None
        result = stage.engine.query(text)
        try:
            if options.name is None and not re.search(r"\blimit\b", text.lower()):
                total = result.aggregate("count(*)").fetchall()[0][0]
            # Without the limit all rows would be made, in the order that they are asked for, and held.
            rows = result.limit(options.rows).fetchall()
        except duckdb.Error as error:
            raise query_error(error) from None
        shares = [name for name in result.columns if re.search(r"(^|_)(share|retention)$", name)]
        return Listing(result.columns, rows, percent=shares, total=total, shorten_pseudonyms=True)


def _parse_line(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="%%sql", add_help=False, exit_on_error=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--rows", type=int, default=_DEFAULT_ROWS)
    parser.add_argument("--quiet", action="store_true")
    try:
        options, unknown = parser.parse_known_args(shlex.split(line))
    except (argparse.ArgumentError, ValueError) as error:
        raise UsageError(f"%%sql {line}: {error}; write %%sql [name] [--rows N] [--quiet].") from None
    if unknown:
        raise UsageError(f"%%sql does not know {unknown[0]!r}; write %%sql [name] [--rows N] [--quiet].")
    return options


def _format_literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _skip_after_end(lines: list[str]) -> list[str]:
    """Once a stage has ended early, let a cell do nothing, unless it sets parameters or opens a stage anew."""
    stage = stages.current
    if stage is None or stage.ended not in ("SKIPPED", "REJECTED"):
        return lines
    source = "".join(lines)
    if "begin(" in source or _only_assigns(source):
        return lines
    return [f"print('Not run: the stage has ended as {stage.ended}.')\n"]


def _only_assigns(source: str) -> bool:
    """Whether a cell gives names to plain values, as a parameters cell does, and works nothing out."""
    try:
        for each in ast.parse(source).body:
            if not isinstance(each, (ast.Assign, ast.AnnAssign)) or each.value is None:
                return False
            ast.literal_eval(each.value)
    except (SyntaxError, ValueError):
        return False
    return True


def _raise_exit(change: dict[str, Any]) -> None:
    """Let a cell that shuts its kernel down (``exit()``, ``do_shutdown``) fail as ``sys.exit()`` does.

    Else the kernel ends while a later cell is running, which would be blamed. Jupyter's own request for the end of a kernel
    arrives in another thread.
    """
    if change["new"] and threading.current_thread() is threading.main_thread():
        raise SystemExit


def _show_partial_result(result: Any) -> None:
    """After a cell that failed, leave what the stage had read and written, for the record of the attempt."""
    stage = stages.current
    if result.error_in_exec is None or stage is None or stage.ended:
        return
    unfinished = stage.result("FAILED", [], {})
    display({RESULT_MIME: unfinished, "text/plain": "The stage was not finished."}, raw=True)
