"""The keys of pseudonyms: the first made once, readable by its owner only; further ones put behind it; pseudonyms by them."""

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


def test_the_first_use_makes_a_key_of_32_bytes(path: Path) -> None:
    (key,) = load_keys(str(path))
    assert len(key) == 32


def test_later_uses_read_the_same_key(path: Path) -> None:
    assert load_keys(str(path)) == load_keys(str(path)) == (path.read_bytes(),)


def test_two_deployments_have_different_keys(tmp_path: Path) -> None:
    assert load_keys(str(tmp_path / "one.key")) != load_keys(str(tmp_path / "two.key"))


def test_a_new_key_may_be_read_by_its_owner_only_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        load_keys(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_making_a_key_leaves_nothing_else_behind(path: Path) -> None:
    load_keys(str(path))
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_key_is_not_touched(path: Path) -> None:
    write(path, b"k" * 32, 0o400)
    assert load_keys(str(path)) == (b"k" * 32,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    write(path, b"k" * 32, mode)
    with pytest.raises(DaybookError) as caught:
        load_keys(str(path))
    assert str(caught.value) == f"{path} can be read by other users; run: chmod 600 {path}"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_the_wrong_length_is_refused(path: Path, length: int) -> None:
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
def test_first_uses_at_the_same_time_agree_on_one_key(path: Path, workers: Any) -> None:
    pool: Executor
    with workers() as pool:
        keys = set(pool.map(load_keys, [str(path)] * 8))
    assert keys == {(path.read_bytes(),)}


def test_a_use_that_finds_the_key_made_meanwhile_takes_that_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def after_another(draft: Any, target: Any) -> None:
        Path(target).write_bytes(b"o" * 32)
        Path(target).chmod(0o600)
        link(draft, target)

    monkeypatch.setattr(os, "link", after_another)
    assert load_keys(str(path)) == (b"o" * 32,)
    assert list(path.parent.iterdir()) == [path]


def test_a_further_key_stands_behind_the_first_in_a_file_that_only_its_owner_may_read(path: Path) -> None:
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


def test_keys_added_at_the_same_time_are_all_kept(path: Path) -> None:
    load_keys(str(path))
    with ThreadPoolExecutor(4) as pool:
        chains = list(pool.map(add_key, [str(path)] * 6))
    final = load_keys(str(path))
    assert len(final) == 7
    assert all(final[: len(chain)] == chain for chain in chains)


def test_whoever_is_killed_before_the_file_is_replaced_leaves_the_old_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_keys(str(path))

    def killed(draft: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        add_key(str(path))
    assert load_keys(str(path)) == before


def test_a_draft_that_a_killed_writer_left_goes_with_the_next_key_and_a_backup_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_a_written_key_is_on_disk_under_its_name(path: Path, monkeypatch: pytest.MonkeyPatch, write_key: Any) -> None:
    synced, fsync = [], os.fsync

    def noted(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode) and path.exists() and path.read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_key(str(path))
    assert synced[-1] == path.read_bytes()


@pytest.mark.parametrize("text", ["g" * 64, "0" * 63 + "\n", "0" * 64 + "\nkey\n", "0" * 65])
def test_a_file_of_anything_but_keys_is_refused(path: Path, text: str) -> None:
    write(path, text.encode())
    with pytest.raises(DaybookError, match="restore it from your backup"):
        load_keys(str(path))


def test_a_pseudonym_of_one_key_is_the_start_of_the_hmac() -> None:
    # RFC 4231, test case 2.
    assert make_pseudonym((b"Jefe",), "what do ya want for nothing?") == "5bdcc146bf60754e6a042426089575c7"


def test_a_pseudonym_of_more_keys_is_the_earlier_one_carried_on() -> None:
    keys = (b"a" * 32, b"b" * 32, b"c" * 32)
    stored = make_pseudonym(keys[:1], "C-1")
    assert stored is not None
    assert apply_keys(keys, stored, 1) == make_pseudonym(keys, "C-1")
    assert len({make_pseudonym(keys[:number], "C-1") for number in (1, 2, 3)}) == 3


@pytest.mark.parametrize("text", [None, "[erased]", "[erased:0123456789ab]"])
def test_nobody_has_no_pseudonym(text: Any) -> None:
    assert make_pseudonym((b"a" * 32,), text) is None


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """AWS Secrets Manager, which answers what a test has told it to, in that order."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    client = boto3.client("secretsmanager", region_name="eu-central-1")
    monkeypatch.setattr(keys_module, "_secrets_manager_client", lambda: client)
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("answer", [{"SecretBinary": b"k" * 32}, {"SecretString": (b"k" * 32).hex()}])
def test_a_secret_holds_a_key_as_bytes_or_as_digits(secret: Stubber, answer: dict[str, Any]) -> None:
    secret.add_response("get_secret_value", answer, {"SecretId": "shop/pseudonyms"})
    assert load_keys("secretsmanager://shop/pseudonyms") == (b"k" * 32,)


def test_a_further_key_becomes_the_secrets_new_text(secret: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook.privacy.pseudonyms.secrets.token_bytes", lambda size: b"n" * size)
    text = f"{(b'k' * 32).hex()}\n{(b'n' * 32).hex()}\n"
    secret.add_response("get_secret_value", {"SecretBinary": b"k" * 32}, {"SecretId": "shop"})
    secret.add_response("put_secret_value", {}, {"SecretId": "shop", "SecretString": text})
    secret.add_response("get_secret_value", {"SecretString": text}, {"SecretId": "shop"})
    assert add_key("secretsmanager://shop") == (b"k" * 32, b"n" * 32)


def test_a_secret_that_another_changed_meanwhile_is_told(secret: Stubber) -> None:
    secret.add_response("get_secret_value", {"SecretBinary": b"k" * 32}, {"SecretId": "shop"})
    secret.add_response("put_secret_value", {})
    secret.add_response("get_secret_value", {"SecretBinary": b"z" * 32}, {"SecretId": "shop"})
    with pytest.raises(
        DaybookError, match="The secret shop was changed by another process at the same time; run the command again"
    ):
        add_key("secretsmanager://shop")


def test_a_secret_that_is_not_there_is_told_with_what_to_do(secret: Stubber) -> None:
    secret.add_client_error("get_secret_value", "ResourceNotFoundException", "Secrets Manager can't find the secret")
    with pytest.raises(DaybookError, match=r"The secret shop cannot be read .*; create it once with 64 random hex digits"):
        load_keys("secretsmanager://shop")


def test_params_name_a_file_or_a_secret_and_no_bucket(home: Path) -> None:
    assert load_settings("local", {"pii_key": "secretsmanager://shop"}).pii_key == "secretsmanager://shop"
    with pytest.raises(ParamsError, match="it should be a file or secretsmanager:// and the name of a secret"):
        load_settings("local", {"pii_key": "s3://bucket/pii.key"})


def test_a_key_for_which_there_is_no_room_is_not_made_at_all_and_is_made_once_there_is(disks: Any, tmp_path: Path) -> None:
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
