"""Test the emulator: all AWS libraries reach it, and S3 behaves as the tests assume."""

from __future__ import annotations

import awswrangler
import pandas as pd
import pytest
from botocore.exceptions import ClientError
from deltalake import DeltaTable, write_deltalake
from pyarrow.fs import FileSystem

from daybook.errors import ObjectExistsError
from daybook.storage import Store
from tests.emulator.emulator import Account, Emulator

pytestmark = [pytest.mark.slow, pytest.mark.smoke]


def test_all_libraries_reach_same_bucket(aws_account: Account) -> None:
    bucket = aws_account.new_bucket()

    write_deltalake(f"s3://{bucket}/table", pd.DataFrame({"order_id": ["a", "b"]}))
    assert DeltaTable(f"s3://{bucket}/table").to_pandas()["order_id"].to_list() == ["a", "b"]

    awswrangler.s3.to_csv(pd.DataFrame({"order_id": ["c"]}), f"s3://{bucket}/file.csv", index=False)
    files, path = FileSystem.from_uri(f"s3://{bucket}/file.csv")
    with files.open_input_stream(path) as stream:
        assert stream.read() == b"order_id\nc\n"

    Store(f"s3://{bucket}/archive").create("run.json", b"{}")
    assert aws_account.client("s3").get_object(Bucket=bucket, Key="archive/run.json")["Body"].read() == b"{}"


def test_object_is_created_once(aws_account: Account) -> None:
    store = Store(f"s3://{aws_account.new_bucket()}")
    store.create("run.json", b"first")
    with pytest.raises(ObjectExistsError):
        store.create("run.json", b"second")


def test_accounts_are_separate(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    first = emulator.enter(monkeypatch)
    first.client("sqs").create_queue(QueueName="undelivered")
    second = emulator.enter(monkeypatch)
    assert second.client("sts").get_caller_identity()["Account"] == second.number != first.number
    with pytest.raises(ClientError, match="NonExistentQueue"):
        second.client("sqs").get_queue_url(QueueName="undelivered")
