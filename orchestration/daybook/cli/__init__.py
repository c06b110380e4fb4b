"""The ``daybook`` command: options, what is printed, exit codes; anything a program could want too is in the other rooms."""

from __future__ import annotations

import sys

import click

from daybook.cli.app import app, state
from daybook.errors import EXIT_FAILED, EXIT_GOOD, EXIT_USAGE, DaybookError
from daybook.records.formatting import printable

__all__ = ["app", "main"]


def main() -> None:
    """The console script: errors as one sentence, exit codes as documented."""
    try:
        # Outside standalone mode click returns the code of an Exit instead of raising it.
        sys.exit(app(standalone_mode=False) or EXIT_GOOD)
    except DaybookError as error:
        if state.debug:
            raise
        print(printable(str(error), keep="\n"), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        from daybook.storage import trouble, unwritable

        # A machine's fault in a place of Daybook's own, such as the report's; all else is a fault in Daybook itself.
        if state.debug or trouble(error) is None:
            raise
        print(printable(str(unwritable(error.filename or "A file", error))), file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except click.ClickException as error:
        # A wrong option or command: the sentence, and where to read on.
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "daybook"
        print(f"{printable(error.format_message())} Run `{command} --help`.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except click.Abort:
        print("No answer was given; give --yes to be asked nothing.", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)
