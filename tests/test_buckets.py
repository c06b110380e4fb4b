"""Test region, endpoint and credentials for each library that accesses buckets."""

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
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all credentials and regions from the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def test_folder_needs_no_aws_options() -> None:
    assert not is_bucket("/lake")
    assert delta_options("/lake/gold/daily_sales") is None


def test_missing_credentials_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(StorageError, match="No AWS credentials were found; sign in"):
        Store("s3://archive")


def test_missing_region_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with pytest.raises(StorageError, match="No AWS region is configured; set AWS_REGION"):
        delta_options("s3://lake/gold/daily_sales")


def test_error_names_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"AWS credentials cannot be loaded: .*nobody"):
        arrow_options()


def test_profile_credentials_reach_every_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "sign_on.py"
    expiration = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    answer = {"Version": 1, "AccessKeyId": "id", "SecretAccessKey": "key", "SessionToken": "token", "Expiration": expiration}
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
    provided = obstore_options()["credential_provider"]()
    assert (provided["access_key_id"], provided["token"]) == ("id", "token")
    assert provided["expires_at"] > datetime.now(timezone.utc)
    assert "endpoint_override" not in arrow
    assert "aws_endpoint" not in delta


def test_endpoint_reaches_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
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
