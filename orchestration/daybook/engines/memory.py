"""Limits on the memory of this process: of a container, a Glue job, or set by hand."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import duckdb

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROCESS_CGROUPS = Path("/proc/self/cgroup")
_MIB = 1 << 20
_BASE_BYTES = 400 * _MIB
"""What Python and the packages of a stage have asked for before any row is read."""
_ENGINE_SHARE = 0.4
"""DuckDB's part of what a process may take besides; the rest is that of results, of tables' files, and of the search."""
_SEARCH_SHARE = 0.25
"""That of the database for what is no query of a notebook, which is there beside a notebook's."""
_MIN_BYTES = 128 * _MIB
_BYTES_PER_THREAD = 128 * _MIB
"""So much a thread of DuckDB has to have to sort and to join."""
_RELEASE_THRESHOLD_BYTES = 128 << 10
"""Bytes from which on a piece of memory goes back by itself: what the C library begins with."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""As malloc.h has them."""
_NO_LIMIT = 1 << 60
"""What stands for none in the first version of control groups is near the largest number of 64 bits."""


def memory_limit(groups: Path = _PROCESS_CGROUPS, root: Path = _CGROUP_ROOT) -> Optional[int]:
    """Bytes that this process may take: by its control groups and their parents (version 1 or 2), RLIMIT_DATA and RLIMIT_AS.

    None where nothing limits it but the machine.
    """
    found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    limits = [each for each in found if each != resource.RLIM_INFINITY] + _read_cgroup_limits(groups, root)
    limits = [each for each in limits if 0 < each < _NO_LIMIT]
    return min(limits, default=None)


def _read_cgroup_limits(groups: Path, root: Path) -> list[int]:
    try:
        lines = groups.read_text().splitlines()
    except OSError:  # Not Linux.
        return []
    found = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        # In a container a group's own path may be the host's; then the limit stands at the top.
        group = Path(place)
        for each in (group, *group.parents):
            found += _read_limit(top / str(each).lstrip("/") / name)
    return found


def _read_limit(file: Path) -> list[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max"


_DISABLED_SETTINGS = (
    "enable_external_access",
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "python_enable_replacements",
)
"""Settings without which queries reach only the tables that they were given: no file, no URL, no extension, no variable of the
Python process."""


def duckdb_settings(spill: Path, share: float = _ENGINE_SHARE) -> dict[str, Any]:
    """DuckDB's configuration: its part of the memory that this process may take, and where the rest goes."""
    found: dict[str, Any] = {"temp_directory": str(spill.absolute())}
    limit = memory_limit()
    if limit is not None:
        configure_malloc()
        # By itself DuckDB takes four fifths of what the machine has, or its control group.
        part = max(int((limit - _BASE_BYTES) * share), _MIN_BYTES)
        found["memory_limit"] = f"{part // _MIB}MiB"
        found["threads"] = max(min(part // _BYTES_PER_THREAD, os.cpu_count() or 1), 1)
    return found


@functools.cache
def configure_malloc() -> bool:
    """Have the C library hand memory back as soon as it is free, and threads share where they take it from; whether it can.

    By itself it learns to keep ever larger pieces, and a piece for each thread: two fifths of what a large day has in memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if adjust is None:
        return False
    return all(
        [
            adjust(_TRIM_THRESHOLD, _RELEASE_THRESHOLD_BYTES),
            adjust(_MMAP_THRESHOLD, _RELEASE_THRESHOLD_BYTES),
            adjust(_ARENA_MAX, 1),
        ]
    )


def connect(spill: Path, *, share: float = _ENGINE_SHARE, timezone: str = "UTC") -> duckdb.DuckDBPyConnection:
    """Open an empty database that reaches nothing outside of it, with times in ``timezone`` and locked settings."""
    import duckdb  # slow, and small days need none here

    connection = duckdb.connect(config=duckdb_settings(spill, share))
    for name in _DISABLED_SETTINGS:
        connection.execute(f"SET {name} = false")
    # For cursors too, which are connections of their own.
    connection.execute(f"SET GLOBAL TimeZone = '{timezone}'")
    connection.execute("SET lock_configuration = true")
    return connection


def open_database() -> duckdb.DuckDBPyConnection:
    """An empty database of this process's own. What does not fit into memory goes to a folder nobody else can enter, which
    goes with the database."""
    folder = tempfile.TemporaryDirectory(prefix="daybook-values-")
    connection = connect(Path(folder.name), share=_SEARCH_SHARE)
    weakref.finalize(connection, folder.cleanup)
    return connection
