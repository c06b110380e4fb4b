"""Convert errors of the state machine interpreter into Daybook's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asl_local
from daybook.errors import StateMachineError
from daybook.storage import describe_os_error, storage_write_error


@contextmanager
def interpreter_errors() -> Iterator[None]:
    """Raise errors of the interpreter as ``StateMachineError``, and write errors of a journal as ``StorageError``."""
    try:
        yield
    except asl_local.StateMachineError as error:
        raise StateMachineError(str(error)) from error
    except asl_local.JournalError as error:
        if describe_os_error(error) is None:
            raise
        raise storage_write_error(error.filename, error, "resume the execution") from error
