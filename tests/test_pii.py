"""The key of pseudonyms: made once, readable by its owner only, never replaced."""

from __future__ import annotations

import os
import stat
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import DaybookError
from daybook.pii import load_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "pii.key"


def write(path: Path, key: bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(key)
    path.chmod(mode)


def test_the_first_use_makes_a_key_of_32_bytes(path: Path) -> None:
    assert len(load_key(str(path))) == 32


def test_later_uses_read_the_same_key(path: Path) -> None:
    assert load_key(str(path)) == load_key(str(path)) == path.read_bytes()


def test_two_deployments_have_different_keys(tmp_path: Path) -> None:
    assert load_key(str(tmp_path / "one.key")) != load_key(str(tmp_path / "two.key"))


def test_a_new_key_may_be_read_by_its_owner_only_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        load_key(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_making_a_key_leaves_nothing_else_behind(path: Path) -> None:
    load_key(str(path))
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_key_is_not_touched(path: Path) -> None:
    write(path, b"k" * 32, 0o400)
    assert load_key(str(path)) == b"k" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    write(path, b"k" * 32, mode)
    with pytest.raises(DaybookError) as caught:
        load_key(str(path))
    assert str(caught.value) == f"{path} may be read by others; run: chmod 600 {path}"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_the_wrong_length_is_refused(path: Path, length: int) -> None:
    write(path, b"k" * length)
    with pytest.raises(DaybookError) as caught:
        load_key(str(path))
    assert str(caught.value) == f"{path} holds {length} bytes where a key has 32; restore it from your backup."


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(lambda: ThreadPoolExecutor(8), id="threads"),
        pytest.param(lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), id="processes"),
    ],
)
def test_first_uses_at_the_same_time_agree_on_one_key(path: Path, workers: Any) -> None:
    pool: Executor
    with workers() as pool:
        keys = set(pool.map(load_key, [str(path)] * 8))
    assert keys == {path.read_bytes()}


def test_a_use_that_finds_the_key_made_meanwhile_takes_that_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def after_another(draft: Any, target: Any) -> None:
        Path(target).write_bytes(b"o" * 32)
        Path(target).chmod(0o600)
        link(draft, target)

    monkeypatch.setattr(os, "link", after_another)
    assert load_key(str(path)) == b"o" * 32
    assert list(path.parent.iterdir()) == [path]
