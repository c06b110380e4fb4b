"""Test loading of params files and the message of each mistake."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, Optional

import pytest

from daybook.errors import ParamsError, StorageError, UsageError
from daybook.settings import (
    DateRange,
    list_environments,
    load_settings,
    looks_secret,
    parse_date_range,
    parse_run_date,
    read_contents,
    read_yaml,
    require_name,
    require_own_lake,
)

KEYS = (
    "title, source, timezone, currency, landing, lake, archive, report, pii_key, runs_on, engine, max_rejected_share, "
    "tolerated_rejected_rows, returns_count_on, max_unpacked_bytes, max_unpacked_ratio, cell_output_bytes, "
    "notebook_output_bytes, allow_missing, retention_days, openlineage_url, tell, prices, default_run_date, deployment"
)


def error_message(env="local", overrides=None):
    with pytest.raises(ParamsError) as caught:
        load_settings(env, overrides)
    return str(caught.value)


@pytest.mark.parametrize("env", list_environments())
def test_every_deployment_of_the_project_loads(env):
    settings = load_settings(env)
    assert settings.env == env
    # On AWS a date is required, so that no wrong date runs by omission.
    assert (settings.default_run_date is None) == settings.archive.startswith("s3://")


def test_error_lists_known_deployments(project):
    assert error_message("stage") == "There is no params/stage.yaml; choose one of: local, olist, online_retail, prod."


@pytest.mark.parametrize("env", ["../params/local", "local.yaml", "sources/demo", "", "local\n", "/etc/local", "lócal"])
def test_deployment_has_a_plain_name(project, env):
    with pytest.raises(UsageError) as caught:
        load_settings(env)
    assert str(caught.value).startswith(f"{env!r} is not the name of a deployment;")


def test_error_for_unknown_key_lists_known_keys(project):
    project.replace("params/local.yaml", "title:", "colour: red\ntitle:")
    assert error_message() == f"params/local.yaml: there is no key 'colour'; the keys are: {KEYS}."


def test_error_names_missing_key(project):
    project.replace("params/local.yaml", 'lake: "{home}/lake"\n', "")
    assert error_message() == "params/local.yaml: key 'lake' is missing; add it."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Demo shop", "title: [1]", "key 'title' is [1]: it should be a valid string."),
        ("currency: EUR", "currency: eur", "key 'currency' is 'eur': it should match pattern '^[A-Z]{3}$'."),
        ("0.05", "1.5", "key 'max_rejected_share' is 1.5: it should be less than or equal to 1."),
        (
            "0.05",
            "many",
            "key 'max_rejected_share' is 'many': it should be a valid number, unable to parse string as a number.",
        ),
        (
            "returns_count_on: order_date",
            "returns_count_on: today",
            "key 'returns_count_on' is 'today': it should be 'order_date' or 'return_date'.",
        ),
        ('"{home}/lake"', "5", "key 'lake' is 5: it should be a valid string."),
        ('"{home}/lake"', "ftp://x", "key 'lake' is 'ftp://x': it should be a folder or an s3:// URI."),
        ("title:", "env: prod\ntitle:", "key 'env' is not allowed in a file; remove it."),
        ("title:", "5: five\ntitle:", "key 5 is not a string; write it in quotes."),
        ("Europe/Berlin", "Mars/Olympus", "key 'timezone' is 'Mars/Olympus': not an IANA time zone such as Europe/Berlin."),
        ("Europe/Berlin", "Europe", "key 'timezone' is 'Europe': not an IANA time zone such as Europe/Berlin."),
        ("Europe/Berlin", "../UTC", "key 'timezone' is '../UTC': not an IANA time zone such as Europe/Berlin."),
    ],
)
def test_error_for_invalid_value_has_key_and_reason(project, old, new, message):
    project.replace("params/local.yaml", old, new)
    assert error_message() == f"params/local.yaml: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ", line 3: not valid YAML (duplicate key 'a'); fix that line."),
        ("a:\n  b: 1\n  b: 2\n", ", line 3: not valid YAML (duplicate key 'b'); fix that line."),
        ("a: 1\n\tb: 2\n", ", line 2: not valid YAML (found a tab character that violates indentation); fix that line."),
        ("a: 1\nb: 2025-11-31\n", ", line 2: not valid YAML (day is out of range for month); fix that line."),
        ("a: 1\n[b]: 2\n", ", line 2: not valid YAML (found unhashable key); fix that line."),
        ("- a\n", ": expected a mapping, found list; write lines of key: value."),
        ("", ": expected a mapping, found NoneType; write lines of key: value."),
    ],
)
def test_error_for_invalid_yaml_has_line(project, text, message):
    project.write("params/local.yaml", text)
    assert error_message() == f"params/local.yaml{message}"


@pytest.mark.parametrize("data", [b"title: caf\xe9\n", b"title: \x01\n"])
def test_error_for_undecodable_file(project, data):
    (project.root / "params/local.yaml").write_bytes(data)
    message = error_message()
    assert message.startswith("params/local.yaml cannot be read (")
    assert message.endswith("; save it as UTF-8 text.")
    assert "\n" not in message


def test_yaml_merge_key_is_not_a_duplicate(project):
    project.write("params/any.yaml", "base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\n")
    assert read_yaml(project.root / "params/any.yaml")["other"] == {"a": 1, "b": 3}


def test_override_replaces_value_of_file():
    assert load_settings("local", {"currency": "GBP", "max_rejected_share": "0.5"}).max_rejected_share == 0.5


def test_error_for_unknown_override_lists_known_keys():
    assert error_message(overrides={"lak": "x"}) == f"--set lak=x: there is no key 'lak'; the keys are: {KEYS}."


@pytest.mark.parametrize("key", ["env", "overrides"])
def test_internal_keys_cannot_be_overridden(key):
    assert error_message(overrides={key: "x"}).startswith(f"--set {key}=x: there is no key")


def test_error_for_invalid_override_names_set():
    assert error_message(overrides={"engine": "spork"}) == "--set: key 'engine' is 'spork': it should be 'duckdb'."


def test_relative_location_is_below_the_project(project):
    project.replace("params/local.yaml", '"{home}/lake"', "tables/here")
    assert load_settings("local").lake == str(project.root / "tables/here")


def test_relative_override_is_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings("local", {"landing": "drops"}).landing == str(tmp_path / "drops")


def test_home_placeholder_in_files_and_overrides(home):
    settings = load_settings("local", {"archive": "{home}/other"})
    assert settings.lake == str(home / "lake")
    assert settings.archive == str(home / "other")


def test_default_home_is_in_the_checkout(project, monkeypatch):
    monkeypatch.delenv("DAYBOOK_HOME", raising=False)
    assert load_settings("local").lake == str(project.root / ".daybook/lake")


def test_tilde_is_the_home_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings("local", {"landing": "~/drops"}).landing == str(tmp_path / "drops")


def test_trailing_slash_of_uri_is_removed():
    assert load_settings("local", {"lake": "s3://bucket/lake/"}).lake == "s3://bucket/lake"


def set_keys(project: Any, **values: str) -> None:
    lines = "".join(f"{key}: '{value}'\n" for key, value in values.items())
    text = (project.root / "params/local.yaml").read_text()
    others = [line for line in text.splitlines(keepends=True) if line.split(":")[0] not in values]
    project.write("params/local.yaml", "".join(others) + lines)


ON_AWS = {"runs_on": "aws", "landing": "s3://land", "lake": "s3://lake", "archive": "s3://archive"}


@pytest.mark.parametrize("key", sorted(set(KEYS.split(", ")) - {"allow_missing", "tell", "runs_on"}))
def test_only_marked_settings_are_overridden_on_aws(project, key):
    set_keys(project, **ON_AWS)
    assert error_message(overrides={key: "1"}) == (
        f"--set: key {key!r} cannot be overridden if runs_on is aws (only allow_missing and tell can); "
        "change params/local.yaml and deploy it."
    )


def test_marked_settings_are_overridden_on_aws(project):
    set_keys(project, **ON_AWS)
    settings = load_settings("local", {"allow_missing": "true", "tell": "always"})
    assert (settings.allow_missing, settings.tell) == (True, "always")


@pytest.mark.parametrize("current", ["laptop", "aws"])
@pytest.mark.parametrize("override", ["laptop", "aws"])
def test_runs_on_is_never_overridden(project, current, override):
    set_keys(project, **{**ON_AWS, "runs_on": current})
    message = "--set: key 'runs_on' cannot be overridden; change params/local.yaml or use another --env."
    assert error_message(overrides={"runs_on": override}) == message


@pytest.mark.parametrize(("inner", "outer"), itertools.permutations(("landing", "lake", "archive", "report"), 2))
@pytest.mark.parametrize("below", ["", "/below"])
def test_location_inside_another_is_refused(project, tmp_path, inner, outer, below):
    set_keys(project, **{outer: str(tmp_path / "place"), inner: f"{tmp_path}/place{below}"})
    message = error_message()
    assert message.startswith("params/local.yaml: key ")
    assert f"key {inner!r} is {tmp_path}/place{below}, which is inside {outer!r} ({tmp_path}/place);" in message or not below


def test_root_folder_contains_every_location():
    assert "which is inside 'landing' (/)" in error_message(overrides={"landing": "/"})


@pytest.mark.parametrize("key", ["landing", "lake", "archive", "report", "pii_key"])
def test_location_is_not_empty(key):
    message = f"--set: key {key!r} is '': it should be a path or URI, not empty."
    assert error_message(overrides={key: " "}) == message


@pytest.mark.parametrize("outer", ["landing", "lake", "archive", "report"])
def test_pii_key_is_outside_of_all_locations(home, outer):
    message = error_message(overrides={"pii_key": str(home / outer / "pii.key")})
    assert message == (
        f"--set: key 'pii_key' is {home}/{outer}/pii.key, which is inside {outer!r} ({home}/{outer}); "
        f"choose separate locations for pii_key and {outer}."
    )


def test_locations_are_compared_by_link_targets(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "drops").symlink_to("lake")
    values = {"lake": str(tmp_path / "lake"), "landing": str(tmp_path / "drops/today")}
    assert "which is inside 'lake'" in error_message(overrides=values)


@pytest.mark.parametrize(
    ("lake", "archive", "refused"),
    [
        ("s3://shop", "s3://shop/archive", True),
        ("s3://shop/a", "s3://shop/a", True),
        ("s3://shop/a", "s3://shop/ab", False),
        ("s3://shop", "s3://shop-archive", False),
    ],
)
def test_buckets_are_compared_by_whole_segments(lake, archive, refused):
    values = {"lake": lake, "archive": archive}
    if refused:
        assert "which is inside" in error_message(overrides=values)
    else:
        assert load_settings("local", values).archive == archive


@pytest.mark.parametrize(
    "lake", ["s3://shop/../other", "s3://shop/a/./b", "s3://shop/%2e%2e/b", "s3://shop/a?b", "s3://shop//a"]
)
def test_uri_with_ambiguous_segments_is_refused(lake):
    assert "key 'lake' is " in error_message(overrides={"lake": lake})


def test_sibling_locations_are_accepted(tmp_path):
    values = {"lake": str(tmp_path / "lake"), "archive": str(tmp_path / "lake-archive")}
    assert load_settings("local", values).lake == values["lake"]


LINEAGE = "https://lineage.example/api"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://lineage.example/api", "it should begin with https://"),
        ("https://me@lineage.example/api", "it should be an https:// URL without a user and a query"),
        ("https://lineage.example/api?x=y", "it should be an https:// URL without a user and a query"),
        ("file:///etc/passwd", "it should be an https:// URL without a user and a query"),
        ("http://127.0.0.1.lineage.example/", "it should begin with https://"),
    ],
)
def test_lineage_endpoint_is_https(project, url, reason):
    set_keys(project, openlineage_url=url)
    assert reason in error_message()


@pytest.mark.parametrize("url", ["http://localhost:5000/api", "http://127.0.0.1:1/", "http://[::1]:5000/", LINEAGE])
def test_lineage_endpoint_may_be_this_machine(project, url):
    set_keys(project, openlineage_url=url)
    assert load_settings("local").openlineage_url == url


def test_override_of_endpoint_keeps_its_host(project):
    assert "the host evil.example, which is not the host in params/local.yaml" in error_message(
        overrides={"openlineage_url": "https://evil.example/"}
    )
    set_keys(project, openlineage_url=LINEAGE)
    assert load_settings("local", {"openlineage_url": f"{LINEAGE}/v2"}).openlineage_url == f"{LINEAGE}/v2"
    assert "the host evil.example" in error_message(overrides={"openlineage_url": "https://evil.example/"})


def test_resolved_overrides_are_valid_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = load_settings("local", {"landing": "drops", "currency": "GBP"})
    monkeypatch.chdir("/")
    assert load_settings(first.env, first.overrides) == first


def test_loading_does_not_change_overrides():
    values = {"landing": "drops"}
    load_settings("local", values)
    assert values == {"landing": "drops"}


def test_run_date_is_an_iso_date():
    assert parse_run_date("2024-02-29") == date(2024, 2, 29)


@pytest.mark.parametrize("text", ["2025-02-29", "20251130", "2025-W48-7", "30.11.2025", "2025-11-30 ", "today", ""])
def test_other_texts_are_not_a_run_date(text):
    with pytest.raises(UsageError) as caught:
        parse_run_date(text)
    assert str(caught.value) == f"{text!r} is not a business date; write it as YYYY-MM-DD, for example 2025-11-30."


def test_error_for_missing_yaml_file_has_path(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOENT, ParamsError), (errno.EACCES, ParamsError), (errno.EIO, StorageError)]
)
def test_io_error_is_not_a_params_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: Any):
    def fail(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(Path, "read_bytes", fail)
    for read in (lambda: read_yaml(tmp_path / "a.yaml"), lambda: read_contents([tmp_path / "a.yaml"])):
        with pytest.raises(error, match=r"a\.yaml c"):
            read()


def test_lake_of_another_source_is_refused(project, home):
    text = (project.root / "params" / "local.yaml").read_text()
    project.write("params/bakery.yaml", text.replace("source: demo", "source: olist"))
    with pytest.raises(ParamsError) as caught:
        require_own_lake(load_settings("bakery"))
    assert str(caught.value) == (
        f"params/bakery.yaml: key 'lake' is {home / 'lake'}, which params/local.yaml uses for the source 'demo'; "
        "give each source its own lake."
    )


def test_deployments_of_one_source_can_share_a_lake(project, home):
    project.write("params/staging.yaml", (project.root / "params" / "local.yaml").read_text())
    require_own_lake(load_settings("staging"))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "DB_PASSWORD",
            "dbpassword",
            "db_pass",
            "passwd",
            "secret",
            "clientSecret",
            "api_key",
            "apiKey",
            "hmac_key",
            "secretkey",
            "passkey",
            "dsn",
            "connection_string",
            "jwt",
            "webhook_url",
            "smtp_pw",
            "APIKEY",
        ),
        *("access_key", "AWS_SECRET_ACCESS_KEY", "private_key", "token", "authToken", "credentials", "secret_value"),
    ],
)
def test_secret_is_refused_without_showing_its_value(project, name):
    messages = {"--set": error_message(overrides={name: "hunter2"})}
    project.replace("params/local.yaml", "title:", f"{name}: hunter2\ntitle:")
    messages["params/local.yaml"] = error_message()
    for where, message in messages.items():
        assert message.startswith(f"{where}: key {name!r} looks like a secret, which must not be written here;")
        assert "hunter2" not in message


@pytest.mark.parametrize(
    "name", ["db_secret_name", "secret_arn", "AWS_ACCESS_KEY_ID", "dbSecretName", "pii_key", "landing", "author", "passage"]
)
def test_names_of_secrets_and_other_words_are_accepted(name):
    assert not looks_secret(name)


def test_nested_secret_in_params_file_is_refused(project):
    project.replace("params/local.yaml", "title:", "shop:\n  - {login: {password: hunter2}}\ntitle:")
    assert "key 'password' looks like a secret" in error_message()


def test_error_hides_credentials_of_url(project):
    with pytest.raises(ParamsError) as caught:
        load_settings("local", {"openlineage_url": "https://me:hunter2@host/a?token=hunter2"})
    assert "openlineage_url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("home", "expected"), [("mine", "mine"), ("", None), (None, None)])
def test_relative_home_is_made_absolute(tmp_path: Path, home: Optional[str], expected: Optional[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DAYBOOK_HOME", "DAYBOOK_PROJECT")}
    if home is not None:
        environment["DAYBOOK_HOME"] = home
    code = "import daybook, os; print(os.environ.get('DAYBOOK_HOME'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(expected and tmp_path / expected)


@pytest.mark.parametrize("name", ["demo", "us-east-1", "Prod_2"])
def test_plain_name_is_accepted(name):
    assert require_name(name, "a deployment") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "/a", "a.b", "a\n", "a b", "%2e", "\u00e4", "a\x00"])
def test_name_that_can_leave_its_folder_is_refused(name):
    with pytest.raises(UsageError) as caught:
        require_name(name, "a deployment")
    assert str(caught.value).startswith(f"{name!r} is not the name of a deployment; use only the characters")


def test_date_range_is_parsed() -> None:
    assert parse_date_range("2025-11-30") == DateRange(date(2025, 11, 30), date(2025, 11, 30))
    dates = parse_date_range("2025-11-29..2025-12-01")
    assert (len(dates), str(dates)) == (3, "2025-11-29 to 2025-12-01")
    assert dates.list() == [date(2025, 11, 29), date(2025, 11, 30), date(2025, 12, 1)]
    assert date(2025, 11, 30) in dates
    assert date(2025, 12, 2) not in dates


@pytest.mark.parametrize("text", ["", "2025-11-30..", "..2025-11-30", "2025-11-30..2025-11-29", "2025-11-01...2025-11-02"])
def test_other_texts_are_not_date_ranges(text: str) -> None:
    with pytest.raises(UsageError):
        parse_date_range(text)
