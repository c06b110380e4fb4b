"""Define the ``daybook`` command, and turn errors into messages and exit codes."""

from __future__ import annotations

import sys

import click

from daybook.cli.app import app, global_options
from daybook.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, DaybookError
from daybook.records.formatting import escape_control_characters

__all__ = ["app", "main"]


def main() -> None:
    """Run the command, print an error as one sentence, and exit with the documented code."""
    try:
        # Outside standalone mode click returns the code of an Exit instead of raising it.
        sys.exit(app(standalone_mode=False) or EXIT_OK)
    except DaybookError as error:
        if global_options.debug:
            raise
        print(escape_control_characters(str(error), keep="\n"), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        from daybook.storage import describe_os_error, storage_write_error

        # An I/O error in a folder of Daybook's own, such as that of the report. Any other OSError is a bug in Daybook.
        if global_options.debug or describe_os_error(error) is None:
            raise
        print(escape_control_characters(str(storage_write_error(error.filename or "A file", error))), file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except click.ClickException as error:
        # A wrong option or command: print the error, and the command that shows the help.
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "daybook"
        print(f"{escape_control_characters(error.format_message())} Run `{command} --help`.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except click.Abort:
        print("No answer was given; add --yes to skip the question.", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)
