"""What can go wrong, one small exception per cause, each said in one sentence: what, where, and what to do."""

from __future__ import annotations

from typing import Optional

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REJECTED = 3


class DaybookError(Exception):
    """Something a user can mend. The message is one sentence; ``exit_code`` is what a command ends with.

    ``permanent`` tells whether the same input would fail again. A stage is not retried after such a failure.
    """

    exit_code = EXIT_FAILED
    permanent = False

    def _render_traceback_(self) -> list[str]:
        """In a notebook the sentence says it all; IPython calls this instead of printing the library's frames."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(DaybookError):
    """The command, a parameter or a business date was given wrongly; nothing was started."""

    exit_code = EXIT_USAGE
    permanent = True


class ParamsError(UsageError):
    """A file in ``params/`` does not fit: the message names file, key and what is allowed."""


class ContractError(UsageError):
    """A contract file does not fit: the message names file and key."""


class SourceError(UsageError):
    """A source's YAML or mapping does not fit: the message names file and key."""


class SqlError(UsageError):
    """A query does not parse, names a table or column that does not exist, or cannot convert a value it reads."""


class EngineError(DaybookError):
    """The SQL engine could not finish a valid query: it ran out of memory or disk space, or could not read its input."""


class LineageError(UsageError):
    """A query has something whose columns cannot be followed to where they come from."""


class NotebookError(UsageError):
    """A stage notebook breaks the skeleton, or was given a parameter it does not declare."""


class StateMachineError(UsageError):
    """A state machine file uses something the local runner refuses, or is not well formed."""


class LandingError(DaybookError):
    """A landing file cannot be read, or changed while it was read: the message names file, line and reason."""


class MissingFileError(LandingError):
    """A landing file that the source requires is absent."""

    permanent = True


class FormatError(LandingError):
    """A landing file has an unsupported format, a wrong header or invalid content."""

    permanent = True


class LimitError(LandingError):
    """A landing file exceeds a limit on size, ratio, line length or columns."""

    permanent = True


class LinkError(LandingError):
    """A symbolic link in the landing folder leads out of it."""

    permanent = True


class LakeError(DaybookError):
    """A table could not be read or written."""


class StorageError(DaybookError):
    """A place cannot be written or read: its disk is full, it is read-only, it fails. The message names place and reason."""


class ArchiveError(DaybookError):
    """A record could not be written or is not there."""


class ObjectExistsError(ArchiveError):
    """A name in the archive is taken: nothing there is ever overwritten."""


class DateLockedError(DaybookError):
    """Another run works on the business date: the message says which, whose and since when."""


class BundleError(DaybookError):
    """The bundle that jobs on AWS run from could not be built."""


class NotificationError(DaybookError):
    """AWS did not take a run's message or its metrics."""


class AwsError(DaybookError):
    """AWS could not be asked, or refused: the message says what was asked, where, and what AWS says."""


class DeploymentError(AwsError):
    """A deployment could not be made or removed: the message names the stack and the resource that failed first."""


class StageError(DaybookError):
    """A stage cannot go on."""


def is_permanent(name: Optional[str]) -> bool:
    """Return whether ``name`` is a class of this module whose failures are permanent.

    Of an exception that a kernel raised, only the name of its class is known. Unknown names are faults, which are retried.
    """
    found = globals().get(name or "")
    return isinstance(found, type) and issubclass(found, DaybookError) and found.permanent
