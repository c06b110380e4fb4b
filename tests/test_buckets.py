"""What each library is told of buckets: one region, one endpoint, one way to credentials."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from daybook.errors import StorageError
from daybook.storage import Store, arrow_options, delta_options, is_bucket, obstore_options


@pytest.fixture(autouse=True)
def _nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any credentials or region."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def test_a_folder_needs_nothing_of_aws() -> None:
    assert not is_bucket("/lake")
    assert delta_options("/lake/gold/daily_sales") is None


def test_without_credentials_one_sentence_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(StorageError, match="no AWS credentials here; sign in"):
        Store("s3://archive")


def test_without_a_region_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with pytest.raises(StorageError, match="No AWS region is known here; set AWS_REGION"):
        delta_options("s3://lake/gold/daily_sales")


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"AWS credentials cannot be had here: .*nobody"):
        arrow_options()


def test_a_profiles_renewed_credentials_reach_every_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "sign_on.py"
    ends = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    answer = {"Version": 1, "AccessKeyId": "id", "SecretAccessKey": "key", "SessionToken": "token", "Expiration": ends}
    script.write_text(f"print({json.dumps(json.dumps(answer))})")
    (tmp_path / "config").write_text(
        f"[profile shop]\nregion = eu-west-3\ncredential_process = {sys.executable} {script}\n", encoding="utf-8"
    )
    monkeypatch.setenv("AWS_PROFILE", "shop")

    delta = delta_options("s3://lake/gold/daily_sales")
    assert delta is not None
    assert (delta["aws_access_key_id"], delta["aws_session_token"], delta["aws_region"]) == ("id", "token", "eu-west-3")
    arrow = arrow_options()
    assert (arrow["secret_key"], arrow["session_token"], arrow["region"]) == ("key", "token", "eu-west-3")
    given = obstore_options()["credential_provider"]()
    assert (given["access_key_id"], given["token"]) == ("id", "token")
    assert given["expires_at"] > datetime.now(timezone.utc)
    assert "endpoint_override" not in arrow
    assert "aws_endpoint" not in delta


def test_another_endpoint_is_told_to_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"REGION": "eu-central-1", "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    delta = delta_options("s3://lake/gold/daily_sales")
    assert delta is not None
    assert (delta["aws_endpoint"], delta["aws_allow_http"]) == ("http://127.0.0.1:1", "true")
    assert (arrow_options()["scheme"], arrow_options()["endpoint_override"]) == ("http", "127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    assert obstore_options()["config"]["aws_endpoint"] == "https://s3.example.com"
    assert obstore_options()["client_options"] == {}
