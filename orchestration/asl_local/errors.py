"""Errors of the interpreter."""


class StateMachineError(Exception):
    """Report an invalid state machine, or an execution that cannot be started or resumed."""


class JournalError(OSError):
    """Report that the journal of an execution cannot be written. The execution can be resumed.

    ``errno`` and ``filename`` are those of the ``OSError``.
    """
