"""Test reading, listing and writing objects in a folder and in memory."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.server
import os
import threading
from datetime import datetime, timedelta, timezone

import pytest

from daybook.errors import ArchiveError, StorageError
from daybook.storage import Store, require_writable, storage_write_error, wrap_write_errors


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path / "root") if request.param == "folder" else "memory:///root")


def test_created_object_is_read_back(store):
    store.create("a/b.txt", b"\x00text\xff")
    assert store.read("a/b.txt") == b"\x00text\xff"


def test_missing_object_raises_file_not_found(store):
    with pytest.raises(FileNotFoundError):
        store.read("a/b.txt")


def test_object_exists_after_creation(store):
    assert not store.exists("a/b.txt")
    store.create("a/b.txt", b"")
    assert store.exists("a/b.txt")


def test_folder_is_not_an_object(store):
    store.create("a/b.txt", b"")
    assert not store.exists("a")


def test_create_never_overwrites(store):
    store.create("a/b.txt", b"first")
    with pytest.raises(ArchiveError) as caught:
        store.create("a/b.txt", b"second")
    assert str(caught.value) == (f"{store.uri}/a/b.txt already exists and is never overwritten; start another run instead.")
    assert store.read("a/b.txt") == b"first"


def test_replace_overwrites(store):
    store.replace("last.json", b"1")
    store.replace("last.json", b"2")
    assert store.read("last.json") == b"2"


def test_keys_are_sorted_and_match_whole_segments(store):
    for key in ("run/b", "run/a/x", "runner/c", "d"):
        store.create(key, b"")
    assert store.keys() == ["d", "run/a/x", "run/b", "runner/c"]
    assert store.keys("run") == ["run/a/x", "run/b"]


def test_missing_prefix_lists_nothing(store):
    assert (store.keys("none"), store.list_folders("none")) == ([], [])


def test_list_folders_returns_names_one_level_below(store):
    for key in ("run=2/a/x", "run=1/b", "file"):
        store.create(key, b"")
    assert store.list_folders() == ["run=1", "run=2"]
    assert store.list_folders("run=2") == ["a"]


def test_list_objects_has_size_and_write_time(store):
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    store.create("a/b", b"four")
    store.create("ab", b"")
    assert [(each.key, each.size) for each in store.list_objects()] == [("a/b", 4), ("ab", 0)]
    assert [each.key for each in store.list_objects("a")] == ["a/b"]
    assert all(before < each.modified < before + timedelta(minutes=5) for each in store.list_objects())


@pytest.mark.parametrize("name", ["with space.csv", "é.csv", "50%.csv", "a%20b.csv", "a#b.csv", "x[1].csv"])
def test_special_characters_in_file_names(tmp_path, name):
    (tmp_path / name).write_bytes(b"dropped")
    store = Store(str(tmp_path))
    assert store.keys() == [name]
    assert store.read(name) == b"dropped"


def test_href_has_root(tmp_path):
    assert Store(f"{tmp_path}/").href("a/b.txt") == f"{tmp_path}/a/b.txt"


def test_reading_does_not_create_folder(tmp_path):
    folder = tmp_path / "typo"
    store = Store(str(folder))
    assert (store.keys(), store.list_folders(), store.exists("a")) == ([], [], False)
    assert not folder.exists()


def test_list_arrivals_has_keys_size_and_arrival_time(store):
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    for key in ("b.txt", "a/b.txt", "a0.txt"):
        store.create(key, b"text" * len(key))
    assert list(store.list_arrivals()) == store.keys()
    assert list(store.list_arrivals("a")) == store.keys("a") == ["a/b.txt"]
    arrival = store.list_arrivals()["a/b.txt"]
    assert arrival.bytes == 28
    assert before < arrival.arrived_at < datetime.now(timezone.utc) + timedelta(seconds=5)


def test_list_arrivals_does_not_create_folder(tmp_path):
    assert Store(str(tmp_path / "none")).list_arrivals() == {}
    assert not (tmp_path / "none").exists()


def test_moved_file_arrives_at_the_time_of_the_move(tmp_path):
    (tmp_path / "root").mkdir()
    old = tmp_path / "old.txt"
    old.write_bytes(b"text")
    os.utime(old, (10**9, 10**9))
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    old.rename(tmp_path / "root" / "old.txt")
    assert Store(str(tmp_path / "root")).list_arrivals()["old.txt"].arrived_at > before


# Version tags


def test_version_tag_is_stable_without_writes(store):
    store.create("a", b"1")
    file, version_tag = store.read_with_version_tag("a")
    with file:
        assert (file.read(), version_tag) == (b"1", store.version_tag("a"))


def test_version_tag_changes_with_each_write(store):
    store.create("a", b"1")
    before = store.version_tag("a")
    store.replace("a", b"2")
    assert store.version_tag("a") != before


def test_missing_object_has_no_version_tag(store):
    with pytest.raises(FileNotFoundError):
        store.version_tag("a")


# Faults of disks and interrupted writes


def test_folder_with_partial_object_is_not_listed(tmp_path):
    store = Store(str(tmp_path))
    store.create("runs/one/started.json", b"{}")
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "three").mkdir()
    (tmp_path / "runs" / "three" / "started.json#1").write_text("{")
    assert store.list_folders("runs") == ["one"]
    assert store.keys("runs") == ["runs/one/started.json"]


def test_partial_object_does_not_block_creation(tmp_path):
    (tmp_path / "a#1").write_text("half")
    store = Store(str(tmp_path))
    store.create("a", b"whole")
    assert store.read("a") == b"whole"


@pytest.mark.parametrize("write", [Store.create, Store.replace])
@pytest.mark.parametrize("leave", [0, 4096, 8192])
def test_full_disk_leaves_no_partial_object(disks, tmp_path, write, leave):
    disk = disks.mount(tmp_path / "disk")
    store = Store(str(disk.path / "root"))
    store.create("before", b"whole")
    disk.fill(leave)
    with pytest.raises(StorageError) as caught:
        write(store, "run/a.json", b"x" * 20_000)
    assert (
        str(caught.value)
        == f"{store.uri}/run/a.json could not be written: its disk is full; free some space, then run it again."
    )
    assert store.keys() == ["before"]
    assert store.list_folders() == []
    disk.free()
    write(store, "run/a.json", b"x" * 20_000)
    assert store.read("run/a.json") == b"x" * 20_000


@pytest.mark.parametrize("act", [Store.create, Store.replace, lambda store, key, _: store.remove(key)])
def test_writes_to_read_only_disk_raise(disks, tmp_path, act):
    disk = disks.mount(tmp_path / "disk")
    store = Store(str(disk.path))
    store.create("a", b"whole")
    disk.read_only()
    for key in ("b", "new/b") if act in (Store.create, Store.replace) else ("a",):
        with pytest.raises(StorageError, match="could not be written: it is read-only; make it writable, then run it again"):
            act(store, key, b"1")
    assert store.read("a") == b"whole"


def test_require_writable_refuses_read_only_disk(disks, tmp_path):
    disk = disks.mount(tmp_path / "disk")
    require_writable(str(disk.path / "lake"))
    disk.read_only()
    with pytest.raises(StorageError, match=r"disk/lake could not be written: it is read-only; make it writable"):
        require_writable(str(disk.path / "lake"))
    assert list(disk.path.iterdir()) == []


def test_require_writable_accepts_buckets():
    require_writable("s3://bucket/lake")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "its disk is full; free some space"),
        (Exception("Generic LocalFileSystem error: Unable to copy (os error 28)\n\nDebug source:"), "its disk is full"),
        (OSError("Read-only file system (os error 30)"), "it is read-only; make it writable"),
        (Exception("Could not create\nError: Os { code: 30, kind: ReadOnlyFilesystem }"), "it is read-only; make it writable"),
        (Exception("dispatch failure: connection refused"), "dispatch failure: connection refused; fix the cause"),
        (Exception(""), "Exception; fix the cause"),
    ],
)
def test_write_error_gives_reason_and_advice(error, message):
    assert f"place could not be written: {message}" in str(storage_write_error("place", error))


def test_only_io_errors_become_storage_errors():
    with pytest.raises(IsADirectoryError), wrap_write_errors("place"):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    with pytest.raises(StorageError, match="place could not be written: its disk is full"), wrap_write_errors("place"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_bucket_put_is_conditional_and_has_checksum(monkeypatch):
    requests = []

    class Bucket(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            """Log nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
        Store("s3://archive").create("run.json", b"{}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    ((headers, body),) = requests
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
