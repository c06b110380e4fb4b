"""Settings: what a params file may hold, and what each mistake in it is told as."""

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
    list_environments,
    load_settings,
    looks_secret,
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


def refusal(env="local", overrides=None):
    with pytest.raises(ParamsError) as caught:
        load_settings(env, overrides)
    return str(caught.value)


@pytest.mark.parametrize("env", list_environments())
def test_every_environment_of_the_project_loads(env):
    settings = load_settings(env)
    assert settings.env == env
    # On AWS a date is always given: nobody runs another by leaving it out.
    assert (settings.default_run_date is None) == settings.archive.startswith("s3://")


def test_an_unknown_environment_is_told_with_those_there_are(project):
    assert refusal("stage") == "There is no params/stage.yaml; the environments are: local, olist, online_retail, prod."


@pytest.mark.parametrize("env", ["../params/local", "local.yaml", "sources/demo", "", "local\n", "/etc/local", "lócal"])
def test_an_environment_is_a_plain_name(project, env):
    with pytest.raises(UsageError) as caught:
        load_settings(env)
    assert str(caught.value).startswith(f"{env!r} is not the name of a deployment;")


def test_an_unknown_key_is_told_with_the_known_ones(project):
    project.replace("params/local.yaml", "title:", "colour: red\ntitle:")
    assert refusal() == f"params/local.yaml: there is no key 'colour'; the keys are: {KEYS}."


def test_a_missing_key_is_named(project):
    project.replace("params/local.yaml", 'lake: "{home}/lake"\n', "")
    assert refusal() == "params/local.yaml: key 'lake' is missing; add it."


@pytest.mark.parametrize(
    ("old", "new", "told"),
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
        ("title:", "env: prod\ntitle:", "key 'env' is not for the file; remove it."),
        ("title:", "5: five\ntitle:", "key 5 is not a text; write it in quotes."),
        ("Europe/Berlin", "Mars/Olympus", "key 'timezone' is 'Mars/Olympus': not an IANA time zone such as Europe/Berlin."),
        ("Europe/Berlin", "Europe", "key 'timezone' is 'Europe': not an IANA time zone such as Europe/Berlin."),
        ("Europe/Berlin", "../UTC", "key 'timezone' is '../UTC': not an IANA time zone such as Europe/Berlin."),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_key_and_reason(project, old, new, told):
    project.replace("params/local.yaml", old, new)
    assert refusal() == f"params/local.yaml: {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", ", line 3: not valid YAML (key 'a' stands twice); mend that line."),
        ("a:\n  b: 1\n  b: 2\n", ", line 3: not valid YAML (key 'b' stands twice); mend that line."),
        ("a: 1\n\tb: 2\n", ", line 2: not valid YAML (found a tab character that violates indentation); mend that line."),
        ("a: 1\nb: 2025-11-31\n", ", line 2: not valid YAML (day is out of range for month); mend that line."),
        ("a: 1\n[b]: 2\n", ", line 2: not valid YAML (found unhashable key); mend that line."),
        ("- a\n", ": expected keys and values, found list; write lines of key: value."),
        ("", ": expected keys and values, found NoneType; write lines of key: value."),
    ],
)
def test_broken_yaml_is_told_with_its_line(project, text, told):
    project.write("params/local.yaml", text)
    assert refusal() == f"params/local.yaml{told}"


@pytest.mark.parametrize("data", [b"title: caf\xe9\n", b"title: \x01\n"])
def test_a_file_that_is_no_text_is_told_so(project, data):
    (project.root / "params/local.yaml").write_bytes(data)
    told = refusal()
    assert told.startswith("params/local.yaml cannot be read (")
    assert told.endswith("; save it as UTF-8 text.")
    assert "\n" not in told


def test_a_merged_mapping_is_no_repeated_key(project):
    project.write("params/any.yaml", "base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\n")
    assert read_yaml(project.root / "params/any.yaml")["other"] == {"a": 1, "b": 3}


def test_an_override_wins_over_the_file():
    assert load_settings("local", {"currency": "GBP", "max_rejected_share": "0.5"}).max_rejected_share == 0.5


def test_an_unknown_override_is_told_with_the_known_keys():
    assert refusal(overrides={"lak": "x"}) == f"--set lak=x: params have no key 'lak'; the keys are: {KEYS}."


@pytest.mark.parametrize("key", ["env", "overrides"])
def test_what_is_not_for_the_file_is_not_for_overrides_either(key):
    assert refusal(overrides={key: "x"}).startswith(f"--set {key}=x: params have no key")


def test_an_override_that_does_not_fit_is_not_blamed_on_the_file():
    assert refusal(overrides={"engine": "spork"}) == "--set: key 'engine' is 'spork': it should be 'duckdb'."


def test_a_relative_location_of_the_file_is_below_the_project(project):
    project.replace("params/local.yaml", '"{home}/lake"', "tables/here")
    assert load_settings("local").lake == str(project.root / "tables/here")


def test_a_relative_override_is_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings("local", {"landing": "drops"}).landing == str(tmp_path / "drops")


def test_home_is_the_daybook_home_in_files_and_overrides(home):
    settings = load_settings("local", {"archive": "{home}/other"})
    assert settings.lake == str(home / "lake")
    assert settings.archive == str(home / "other")


def test_home_is_in_the_checkout_unless_the_environment_says_otherwise(project, monkeypatch):
    monkeypatch.delenv("DAYBOOK_HOME", raising=False)
    assert load_settings("local").lake == str(project.root / ".daybook/lake")


def test_a_tilde_is_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings("local", {"landing": "~/drops"}).landing == str(tmp_path / "drops")


def test_a_uri_stays_as_it_is_but_for_a_last_slash():
    assert load_settings("local", {"lake": "s3://bucket/lake/"}).lake == "s3://bucket/lake"


def with_keys(project: Any, **values: str) -> None:
    lines = "".join(f"{key}: '{value}'\n" for key, value in values.items())
    text = (project.root / "params/local.yaml").read_text()
    kept = [line for line in text.splitlines(keepends=True) if line.split(":")[0] not in values]
    project.write("params/local.yaml", "".join(kept) + lines)


ON_AWS = {"runs_on": "aws", "landing": "s3://land", "lake": "s3://lake", "archive": "s3://archive"}


@pytest.mark.parametrize("key", sorted(set(KEYS.split(", ")) - {"allow_missing", "tell", "runs_on"}))
def test_only_marked_settings_are_overridden_on_aws(project, key):
    with_keys(project, **ON_AWS)
    assert refusal(overrides={key: "1"}) == (
        f"--set: key {key!r} cannot be overridden where runs_on is aws (only allow_missing and tell can); "
        "change params/local.yaml and deploy it."
    )


def test_marked_settings_are_overridden_on_aws(project):
    with_keys(project, **ON_AWS)
    settings = load_settings("local", {"allow_missing": "true", "tell": "always"})
    assert (settings.allow_missing, settings.tell) == (True, "always")


@pytest.mark.parametrize("there", ["laptop", "aws"])
@pytest.mark.parametrize("asked", ["laptop", "aws"])
def test_runs_on_is_never_overridden(project, there, asked):
    with_keys(project, **{**ON_AWS, "runs_on": there})
    told = "--set: key 'runs_on' cannot be overridden; change params/local.yaml, or give another --env."
    assert refusal(overrides={"runs_on": asked}) == told


@pytest.mark.parametrize(("inner", "outer"), itertools.permutations(("landing", "lake", "archive", "report"), 2))
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_place_inside_another_is_refused(project, tmp_path, inner, outer, below):
    with_keys(project, **{outer: str(tmp_path / "place"), inner: f"{tmp_path}/place{below}"})
    told = refusal()
    assert told.startswith("params/local.yaml: key ")
    assert f"key {inner!r} is {tmp_path}/place{below}, which lies in {outer!r} ({tmp_path}/place);" in told or not below


def test_no_place_lies_in_the_root():
    assert "which lies in 'landing' (/)" in refusal(overrides={"landing": "/"})


@pytest.mark.parametrize("key", ["landing", "lake", "archive", "report", "pii_key"])
def test_a_place_is_not_empty(key):
    told = f"--set: key {key!r} is '': it should be the name of a place, not empty."
    assert refusal(overrides={key: " "}) == told


@pytest.mark.parametrize("outer", ["landing", "lake", "archive", "report"])
def test_the_key_lies_in_no_other_place(home, outer):
    told = refusal(overrides={"pii_key": str(home / outer / "pii.key")})
    assert told == (
        f"--set: key 'pii_key' is {home}/{outer}/pii.key, which lies in {outer!r} ({home}/{outer}); "
        f"give pii_key and {outer} places outside of each other."
    )


def test_a_place_is_compared_by_where_links_lead(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "drops").symlink_to("lake")
    given = {"lake": str(tmp_path / "lake"), "landing": str(tmp_path / "drops/today")}
    assert "which lies in 'lake'" in refusal(overrides=given)


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
    given = {"lake": lake, "archive": archive}
    if refused:
        assert "which lies in" in refusal(overrides=given)
    else:
        assert load_settings("local", given).archive == archive


@pytest.mark.parametrize(
    "lake", ["s3://shop/../other", "s3://shop/a/./b", "s3://shop/%2e%2e/b", "s3://shop/a?b", "s3://shop//a"]
)
def test_a_bucket_is_written_in_one_way(lake):
    assert "key 'lake' is " in refusal(overrides={"lake": lake})


def test_places_beside_each_other_are_good(tmp_path):
    given = {"lake": str(tmp_path / "lake"), "archive": str(tmp_path / "lake-archive")}
    assert load_settings("local", given).lake == given["lake"]


LINEAGE = "https://lineage.example/api"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://lineage.example/api", "it should begin with https://"),
        ("https://me@lineage.example/api", "it should be an https:// URL without a user and a query"),
        ("https://lineage.example/api?x=y", "it should be an https:// URL without a user and a query"),
        ("file:///etc/passwd", "it should be an https:// URL without a user and a query"),
        ("http://127.0.0.1.lineage.example/", "it should begin with https://"),
    ],
)
def test_the_lineage_endpoint_is_https(project, url, told):
    with_keys(project, openlineage_url=url)
    assert told in refusal()


@pytest.mark.parametrize("url", ["http://localhost:5000/api", "http://127.0.0.1:1/", "http://[::1]:5000/", LINEAGE])
def test_the_lineage_endpoint_may_be_this_machine(project, url):
    with_keys(project, openlineage_url=url)
    assert load_settings("local").openlineage_url == url


def test_an_override_of_the_endpoint_stays_on_its_host(project):
    assert "leads to evil.example, which params/local.yaml does not name" in refusal(
        overrides={"openlineage_url": "https://evil.example/"}
    )
    with_keys(project, openlineage_url=LINEAGE)
    assert load_settings("local", {"openlineage_url": f"{LINEAGE}/v2"}).openlineage_url == f"{LINEAGE}/v2"
    assert "leads to evil.example" in refusal(overrides={"openlineage_url": "https://evil.example/"})


def test_overrides_handed_on_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = load_settings("local", {"landing": "drops", "currency": "GBP"})
    monkeypatch.chdir("/")
    assert load_settings(first.env, first.overrides) == first


def test_loading_leaves_the_callers_overrides_alone():
    given = {"landing": "drops"}
    load_settings("local", given)
    assert given == {"landing": "drops"}


def test_a_run_date_is_an_iso_date():
    assert parse_run_date("2024-02-29") == date(2024, 2, 29)


@pytest.mark.parametrize("text", ["2025-02-29", "20251130", "2025-W48-7", "30.11.2025", "2025-11-30 ", "today", ""])
def test_anything_else_is_no_run_date(text):
    with pytest.raises(UsageError) as caught:
        parse_run_date(text)
    assert str(caught.value) == f"{text!r} is not a business date; write it as YYYY-MM-DD, for example 2025-11-30."


def test_an_absent_yaml_file_is_told_by_its_path(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOENT, ParamsError), (errno.EACCES, ParamsError), (errno.EIO, StorageError)]
)
def test_a_disk_that_fails_is_no_error_of_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: Any):
    def fails(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_text", fails)
    monkeypatch.setattr(Path, "read_bytes", fails)
    for read in (lambda: read_yaml(tmp_path / "a.yaml"), lambda: read_contents([tmp_path / "a.yaml"])):
        with pytest.raises(error, match=r"a\.yaml c"):
            read()


def test_a_lake_that_another_source_has_is_refused(project, home):
    text = (project.root / "params" / "local.yaml").read_text()
    project.write("params/bakery.yaml", text.replace("source: demo", "source: olist"))
    with pytest.raises(ParamsError) as caught:
        require_own_lake(load_settings("bakery"))
    assert str(caught.value) == (
        f"params/bakery.yaml: key 'lake' is {home / 'lake'}, where params/local.yaml keeps the source 'demo'; "
        "give each source a lake of its own."
    )


def test_deployments_of_one_source_may_share_a_lake(project, home):
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
def test_a_secret_is_refused_wherever_it_is_given_and_its_value_is_not_said(project, name):
    for told, where in ((refusal(overrides={name: "hunter2"}), "--set"), (None, "params/local.yaml")):
        if told is None:
            project.replace("params/local.yaml", "title:", f"{name}: hunter2\ntitle:")
            told = refusal()
        assert told.startswith(f"{where}: key {name!r} looks like a secret, and only names of secrets pass;")
        assert "hunter2" not in told


@pytest.mark.parametrize(
    "name", ["db_secret_name", "secret_arn", "AWS_ACCESS_KEY_ID", "dbSecretName", "pii_key", "landing", "author", "passage"]
)
def test_names_of_secrets_and_other_words_pass(name):
    assert not looks_secret(name)


def test_a_secret_deep_in_a_params_file_is_refused_too(project):
    project.replace("params/local.yaml", "title:", "shop:\n  - {login: {password: hunter2}}\ntitle:")
    assert "key 'password' looks like a secret" in refusal()


def test_an_address_is_told_without_what_it_may_carry(project):
    with pytest.raises(ParamsError) as caught:
        load_settings("local", {"openlineage_url": "https://me:hunter2@host/a?token=hunter2"})
    assert "openlineage_url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("given", "meant"), [("mine", "mine"), ("", None), (None, None)])
def test_a_home_given_from_here_is_the_same_for_processes_in_other_folders(
    tmp_path: Path, given: Optional[str], meant: Optional[str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DAYBOOK_HOME", "DAYBOOK_PROJECT")}
    if given is not None:
        environment["DAYBOOK_HOME"] = given
    code = "import daybook, os; print(os.environ.get('DAYBOOK_HOME'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(meant and tmp_path / meant)


@pytest.mark.parametrize("name", ["demo", "us-east-1", "Prod_2"])
def test_a_plain_name_is_returned(name):
    assert require_name(name, "a deployment") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "/a", "a.b", "a\n", "a b", "%2e", "\u00e4", "a\x00"])
def test_a_name_that_may_leave_its_folder_is_refused(name):
    with pytest.raises(UsageError) as caught:
        require_name(name, "a deployment")
    assert str(caught.value).startswith(f"{name!r} is not the name of a deployment; such a name has only the characters")
