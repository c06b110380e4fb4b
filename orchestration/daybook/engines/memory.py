"""Find the memory limit of this process (a container, a Glue job, a ulimit) and open DuckDB within it."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import duckdb

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROCESS_CGROUPS = Path("/proc/self/cgroup")
_MIB = 1 << 20
_BASE_BYTES = 400 * _MIB
"""Memory of Python and a stage's packages before any row is read."""
ENGINE_SHARE = 0.4
"""Share of the remaining memory for DuckDB; the rest is for results, files of tables and the search for personal data."""
_SEARCH_SHARE = 0.25
"""Share for the database of ``open_database``, which exists beside a notebook's."""
_MIN_BYTES = 128 * _MIB
_BYTES_PER_THREAD = 128 * _MIB
"""Memory that a thread of DuckDB needs to sort and join."""
_RELEASE_THRESHOLD_BYTES = 128 << 10
"""Size from which malloc returns a freed block to the system: the C library's initial value."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of ``mallopt`` (malloc.h)."""
_NO_LIMIT = 1 << 60
"""Control groups of version 1 write a number near the largest of 64 bits for no limit; ulimits are -1 or that number."""


def memory_limit(groups: Path = _PROCESS_CGROUPS, root: Path = _CGROUP_ROOT) -> Optional[int]:
    """Return the memory limit of this process in bytes; None if only the machine limits it.

    The limit is the least of those of its control groups and their parents (version 1 or 2), RLIMIT_DATA and RLIMIT_AS.
    """
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    for file in _list_limit_files(groups, root):
        with suppress(OSError, ValueError):  # No such file, or "max".
            limits.append(int(file.read_text()))
    return min((each for each in limits if 0 < each < _NO_LIMIT), default=None)


def _list_limit_files(groups: Path, root: Path) -> Iterator[Path]:
    """Yield the files with the memory limits of the process's control groups; some need not exist."""
    for line in groups.read_text().splitlines() if groups.is_file() else []:  # Linux only.
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        # In a container the path may be that of the host; then the limit is in the top folder.
        group = Path(place)
        for each in (group, *group.parents):
            yield top / str(each).lstrip("/") / name


_DISABLED_SETTINGS = (
    "enable_external_access",
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "python_enable_replacements",
)
"""Settings that are turned off, so that queries read registered tables only: no files, URLs, extensions, Python variables."""


def duckdb_settings(spill: Path, share: float = ENGINE_SHARE) -> dict[str, Any]:
    """Return DuckDB's configuration: its share of the memory limit, its threads, and the folder for the rest."""
    found: dict[str, Any] = {"temp_directory": str(spill.absolute())}
    limit = memory_limit()
    if limit is not None:
        configure_malloc()
        # DuckDB's default is 80 % of the memory of the machine or the control group.
        part = max(int((limit - _BASE_BYTES) * share), _MIN_BYTES)
        found["memory_limit"] = f"{part // _MIB}MiB"
        found["threads"] = max(min(part // _BYTES_PER_THREAD, os.cpu_count() or 1), 1)
    return found


@functools.cache
def configure_malloc() -> None:
    """Make malloc return freed memory at once and use one arena for all threads, where the C library can.

    By default malloc raises its thresholds over time and has an arena for each thread. On a large day that is two fifths of the
    memory in use.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if adjust is not None:  # musl has none.
        adjust(_TRIM_THRESHOLD, _RELEASE_THRESHOLD_BYTES)
        adjust(_MMAP_THRESHOLD, _RELEASE_THRESHOLD_BYTES)
        adjust(_ARENA_MAX, 1)


def connect(
    spill: Path, *, share: float = ENGINE_SHARE, timezone: str = "UTC", threads: Optional[int] = None
) -> duckdb.DuckDBPyConnection:
    """Open an empty database without access to anything outside of it, with times in ``timezone`` and locked settings."""
    import duckdb  # Slow to import, and small days do not need it here.

    config = duckdb_settings(spill, share)
    if threads is not None:
        config["threads"] = threads
    connection = duckdb.connect(config=config)
    for name in _DISABLED_SETTINGS:
        connection.execute(f"SET {name} = false")
    # GLOBAL, because cursors are connections of their own.
    connection.execute(f"SET GLOBAL TimeZone = '{timezone}'")
    connection.execute("SET lock_configuration = true")
    return connection


def open_database(*, share: float = _SEARCH_SHARE, timezone: str = "UTC") -> duckdb.DuckDBPyConnection:
    """Open an empty database for this process. Its folder for data that does not fit into memory is private and is removed with
    the database."""
    folder = tempfile.TemporaryDirectory(prefix="daybook-values-")
    connection = connect(Path(folder.name), share=share, timezone=timezone)
    weakref.finalize(connection, folder.cleanup)
    return connection
