"""Test that secrets of the environment, and keys, tokens and passwords by their form, are redacted."""

from __future__ import annotations

import base64

import pytest

from daybook.privacy.redactor import Redactor
from daybook.privacy.secrets import SecretFinder

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


def found(text: str, **environment: str) -> list[str]:
    return sorted({text[start:end] for start, end, _ in SecretFinder(environment).find(text)})


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "API_TOKEN", "OPENAI_KEY", "MY_CREDENTIALS"]
)
def test_values_of_secret_variables_are_found(name: str) -> None:
    assert found("it is 'hunter2-hunter2'.", **{name: "hunter2-hunter2"}) == ["hunter2-hunter2"]


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "hunter2-hunter2"},
        {"API_TOKEN": "true"},
        {"DAYBOOK_PII_KEY": "/srv/pii.key", "SSH_KEY": "~/.ssh/id_rsa", "AWS_SECRET": "arn:aws:secretsmanager:eu"},
        {"KEYBOARD_LAYOUT": "hunter2-hunter2", "TOKENIZERS_PARALLELISM": "hunter2-hunter2"},
    ],
)
def test_other_variables_are_not_secrets(environment: dict[str, str]) -> None:
    assert found("hunter2-hunter2 true /srv/pii.key ~/.ssh/id_rsa arn:aws:secretsmanager:eu", **environment) == []


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        (f"AKIAIOSFODNN7EXAMPLE,{KEY}", ["AKIAIOSFODNN7EXAMPLE", KEY]),
        (f"aws_secret_access_key = {KEY}", [KEY]),
        ("postgresql://shop:hunter2@db.example/shop", ["hunter2"]),
        (PEM, [PEM]),
        (f"{PEM[:50]}…", [f"{PEM[:50]}…"]),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"]),
    ],
)
def test_secrets_are_found_by_form(text: str, secrets: list[str]) -> None:
    assert found(f"it is {text}")[: len(secrets)] == secrets


@pytest.mark.parametrize(
    "text",
    [
        "e83c5163316f89bfbde7d9ab23ca2e25604af290",
        f"AKIAIOSFODNN7EXAMPLES {KEY}",
        "https://example.com:8080/a@b",
        "s3://bucket/a:b",
        "12:00:01",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_digests_and_urls_are_not_secrets(text: str) -> None:
    assert found(text) == []


def test_secrets_are_redacted_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    redactor = Redactor()
    failure = {"cell": 1, "source": f"key = '{KEY}'", "exception": "KeyError", "message": KEY}
    record = {"reasons": [f"no {KEY}"], "failure": failure, "parameters": {"a": base64.b64encode(KEY.encode()).decode()}}
    clean = redactor.redact_record(record)
    assert clean["reasons"] == ["no [redacted:secret]"]
    assert clean["failure"]["message"] == "[redacted:secret]"
    assert clean["failure"]["source"] == "key = '[redacted:secret]'"
    assert clean["parameters"] == {"a": "[redacted:secret]"}
    assert redactor.redact_source(f"x = {KEY}  # exact") == "x = [redacted:secret]  # exact"
