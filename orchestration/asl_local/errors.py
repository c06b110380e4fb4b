"""Errors of the interpreter."""


class StateMachineError(Exception):
    """A state machine is invalid, or an execution cannot be started or resumed. The message says what to do."""


class JournalError(OSError):
    """The journal of an execution cannot be written: ``errno`` and ``filename`` as in ``OSError``. It can be resumed."""
