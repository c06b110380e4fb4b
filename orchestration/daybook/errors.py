"""Exceptions, one per cause. Each message is one sentence with what, where and what to do."""

from __future__ import annotations

from typing import Optional

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REJECTED = 3


class DaybookError(Exception):
    """Report a failure that a user can fix, in one sentence.

    ``exit_code`` is the exit code of a command. ``permanent`` is True if the same input fails again, so that a stage is not
    retried.
    """

    exit_code = EXIT_FAILED
    permanent = False

    def _render_traceback_(self) -> list[str]:
        """Return the message alone, which IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(DaybookError):
    """A command, parameter or business date is invalid; nothing was started."""

    exit_code = EXIT_USAGE
    permanent = True


class ParamsError(UsageError):
    """A file in ``params/`` is invalid. The message names file, key and allowed values."""


class ContractError(UsageError):
    """A contract file is invalid. The message names file and key."""


class SourceError(UsageError):
    """A source's YAML or mapping is invalid. The message names file and key."""


class SqlError(UsageError):
    """A query does not parse, names an unknown table or column, or cannot convert a value."""


class EngineError(DaybookError):
    """The engine could not finish a valid query for lack of memory, disk space or readable input."""


class LineageError(UsageError):
    """The column lineage of a query cannot be determined."""


class NotebookError(UsageError):
    """A stage notebook does not follow the skeleton, or got an undeclared parameter."""


class CaseError(UsageError):
    """A file of SQL test cases is invalid. The message names file, case and key."""


class StateMachineError(UsageError):
    """A state machine file is not well formed, or uses a feature that the local interpreter does not support."""


class LandingError(DaybookError):
    """A landing file cannot be read, or changed while it was read. The message names file, line and reason."""


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
    """A location cannot be read or written, for example because its disk is full. The message names location and reason."""


class ArchiveError(DaybookError):
    """A record could not be written or does not exist."""


class ObjectExistsError(ArchiveError):
    """An object of this name exists, and objects of the archive are never overwritten."""


class DateLockedError(DaybookError):
    """Another run holds the lock or the lease of a business date. The message names the date and the run."""


class LeaseLostError(DaybookError):
    """A run no longer holds the lease of one of its business dates, so it must not commit."""


class BundleError(DaybookError):
    """The bundle for jobs on AWS could not be built."""


class NotificationError(DaybookError):
    """A run's message or metrics could not be sent to AWS."""


class AwsError(DaybookError):
    """A request to AWS failed. The message names request, service and AWS's reason."""


class DeploymentError(AwsError):
    """A deployment could not be created or deleted. The message names the stack and the first failed resource."""


class StageError(DaybookError):
    """A stage cannot continue."""


class DatesFailedError(StageError):
    """No date of a range continues, and some failed. Each was tried again by the stage."""

    permanent = True


def is_permanent(name: Optional[str]) -> bool:
    """Return whether ``name`` is a class of this module whose failures are permanent.

    The exception of a kernel is known by its class name only. Unknown names count as faults, which are retried.
    """
    error = globals().get(name or "")
    return isinstance(error, type) and issubclass(error, DaybookError) and error.permanent
