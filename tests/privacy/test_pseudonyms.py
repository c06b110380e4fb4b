"""Test creation, permissions and addition of keys, and pseudonyms under them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from daybook.errors import DaybookError, ParamsError, StorageError
from daybook.privacy import add_key, apply_keys, load_keys, make_pseudonym
from daybook.privacy import pseudonyms as keys_module
from daybook.settings import load_settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "pii.key"


def write(path: Path, key: bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(key)
    path.chmod(mode)


def test_first_use_creates_a_key_of_32_bytes(path: Path) -> None:
    (key,) = load_keys(str(path))
    assert len(key) == 32


def test_later_uses_read_the_same_key(path: Path) -> None:
    assert load_keys(str(path)) == load_keys(str(path)) == (path.read_bytes(),)


def test_two_deployments_have_different_keys(tmp_path: Path) -> None:
    assert load_keys(str(tmp_path / "one.key")) != load_keys(str(tmp_path / "two.key"))


def test_new_key_is_private_with_any_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        load_keys(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_creating_a_key_leaves_no_other_file(path: Path) -> None:
    load_keys(str(path))
    assert list(path.parent.iterdir()) == [path]


def test_existing_key_is_unchanged(path: Path) -> None:
    write(path, b"k" * 32, 0o400)
    assert load_keys(str(path)) == (b"k" * 32,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_key_readable_by_others_is_refused(path: Path, mode: int) -> None:
    write(path, b"k" * 32, mode)
    with pytest.raises(DaybookError) as caught:
        load_keys(str(path))
    assert str(caught.value) == f"{path} can be read by other users; run: chmod 600 {path}"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_key_of_wrong_length_is_refused(path: Path, length: int) -> None:
    write(path, b"k" * length)
    with pytest.raises(DaybookError) as caught:
        load_keys(str(path))
    assert str(caught.value) == f"{path} has {length} bytes, but a key has 32; restore it from your backup."


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(lambda: ThreadPoolExecutor(8), id="threads"),
        pytest.param(lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), id="processes"),
    ],
)
def test_concurrent_first_uses_get_one_key(path: Path, workers: Any) -> None:
    pool: Executor
    with workers() as pool:
        keys = set(pool.map(load_keys, [str(path)] * 8))
    assert keys == {(path.read_bytes(),)}


def test_key_created_meanwhile_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def after_another(draft: Any, target: Any) -> None:
        Path(target).write_bytes(b"o" * 32)
        Path(target).chmod(0o600)
        link(draft, target)

    monkeypatch.setattr(os, "link", after_another)
    assert load_keys(str(path)) == (b"o" * 32,)
    assert list(path.parent.iterdir()) == [path]


def test_added_key_is_appended_to_a_private_file(path: Path) -> None:
    first = load_keys(str(path))
    keys = add_key(str(path))
    assert len(keys) == 2
    assert keys[:1] == first
    assert load_keys(str(path)) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_keys_are_added_to_a_file_of_many(path: Path) -> None:
    first, second = add_key(str(path)), add_key(str(path))
    assert (len(first), second[:2]) == (2, first)


def test_concurrently_added_keys_are_all_kept(path: Path) -> None:
    load_keys(str(path))
    with ThreadPoolExecutor(4) as pool:
        chains = list(pool.map(add_key, [str(path)] * 6))
    final = load_keys(str(path))
    assert len(final) == 7
    assert all(final[: len(chain)] == chain for chain in chains)


def test_killed_addition_keeps_the_old_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_keys(str(path))

    def killed(draft: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        add_key(str(path))
    assert load_keys(str(path)) == before


def test_drafts_of_killed_writers_are_removed_not_backups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_keys(str(path))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    backup = path.with_name(f"{path.name}.20251101")
    backup.write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            add_key(str(path))
    assert len(list(path.parent.iterdir())) == 3
    add_key(str(path))
    assert sorted(path.parent.iterdir()) == [path, backup]


@pytest.mark.parametrize("write_key", [load_keys, add_key])
def test_written_key_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch, write_key: Any) -> None:
    synced, fsync = [], os.fsync

    def record_sync(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode) and path.exists() and path.read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record_sync)
    write_key(str(path))
    assert synced[-1] == path.read_bytes()


@pytest.mark.parametrize("text", ["g" * 64, "0" * 63 + "\n", "0" * 64 + "\nkey\n", "0" * 65])
def test_file_without_keys_is_refused(path: Path, text: str) -> None:
    write(path, text.encode())
    with pytest.raises(DaybookError, match="restore it from your backup"):
        load_keys(str(path))


def test_pseudonym_of_one_key_is_the_start_of_the_hmac() -> None:
    # RFC 4231, test case 2.
    assert make_pseudonym((b"Jefe",), "what do ya want for nothing?") == "5bdcc146bf60754e6a042426089575c7"


def test_further_keys_apply_to_the_earlier_pseudonym() -> None:
    keys = (b"a" * 32, b"b" * 32, b"c" * 32)
    stored = make_pseudonym(keys[:1], "C-1")
    assert stored is not None
    assert apply_keys(keys, stored, 1) == make_pseudonym(keys, "C-1")
    assert len({make_pseudonym(keys[:number], "C-1") for number in (1, 2, 3)}) == 3


@pytest.mark.parametrize("text", [None, "[erased]", "[erased:0123456789ab]"])
def test_null_has_no_pseudonym(text: Any) -> None:
    assert make_pseudonym((b"a" * 32,), text) is None


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Replace AWS Secrets Manager by one that returns the answers of a test, in order."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    client = boto3.client("secretsmanager", region_name="eu-central-1")
    monkeypatch.setattr(keys_module, "_secrets_manager_client", lambda: client)
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("answer", [{"SecretBinary": b"k" * 32}, {"SecretString": (b"k" * 32).hex()}])
def test_secret_has_keys_as_bytes_or_digits(secret: Stubber, answer: dict[str, Any]) -> None:
    secret.add_response("get_secret_value", answer, {"SecretId": "shop/pseudonyms"})
    assert load_keys("secretsmanager://shop/pseudonyms") == (b"k" * 32,)


def test_added_key_is_written_to_the_secret(secret: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook.privacy.pseudonyms.secrets.token_bytes", lambda size: b"n" * size)
    text = f"{(b'k' * 32).hex()}\n{(b'n' * 32).hex()}\n"
    secret.add_response("get_secret_value", {"SecretBinary": b"k" * 32}, {"SecretId": "shop"})
    secret.add_response("put_secret_value", {}, {"SecretId": "shop", "SecretString": text})
    secret.add_response("get_secret_value", {"SecretString": text}, {"SecretId": "shop"})
    assert add_key("secretsmanager://shop") == (b"k" * 32, b"n" * 32)


def test_concurrent_change_of_the_secret_raises(secret: Stubber) -> None:
    secret.add_response("get_secret_value", {"SecretBinary": b"k" * 32}, {"SecretId": "shop"})
    secret.add_response("put_secret_value", {})
    secret.add_response("get_secret_value", {"SecretBinary": b"z" * 32}, {"SecretId": "shop"})
    with pytest.raises(
        DaybookError, match="The secret shop was changed by another process at the same time; run the command again"
    ):
        add_key("secretsmanager://shop")


def test_missing_secret_raises_with_advice(secret: Stubber) -> None:
    secret.add_client_error("get_secret_value", "ResourceNotFoundException", "Secrets Manager can't find the secret")
    with pytest.raises(DaybookError, match=r"The secret shop cannot be read .*; create it once with 64 random hex digits"):
        load_keys("secretsmanager://shop")


def test_pii_key_is_a_file_or_secret(home: Path) -> None:
    assert load_settings("local", {"pii_key": "secretsmanager://shop"}).pii_key == "secretsmanager://shop"
    with pytest.raises(ParamsError, match="it should be a file or secretsmanager:// and the name of a secret"):
        load_settings("local", {"pii_key": "s3://bucket/pii.key"})


def test_full_disk_leaves_no_partial_key(disks: Any, tmp_path: Path) -> None:
    disk = disks.mount(tmp_path / "disk")
    path = disk.path / "pii.key"
    for act in (load_keys, add_key):
        disk.fill()
        with pytest.raises(StorageError, match=r"pii\.key could not be written: its disk is full; free some space"):
            act(str(path))
        disk.free()
        before = path.read_bytes() if path.exists() else b""
        keys = act(str(path))
        assert path.read_bytes() != before
        assert load_keys(str(path)) == keys
