"""Load and validate the settings of a deployment from ``params/<env>.yaml`` and command-line overrides."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from daybook.errors import ParamsError, UsageError

LOCATIONS = ("landing", "lake", "archive", "report", "pii_key")
"""Settings with paths or URIs. A relative path is resolved against the project, an override against the working folder."""
OVERRIDABLE_ON_AWS = "may be overridden on AWS"
"""Marker of settings that an execution on AWS may override. All others come from the deployed file: the input of an execution
must not change a location or the source, or disable a gate or a limit."""


def project_root() -> Path:
    """Return the checkout or unpacked bundle with ``notebooks/``, ``params/`` and ``orchestration/``."""
    return Path(os.environ.get("DAYBOOK_PROJECT", Path(__file__).resolve().parents[2]))


def require_name(name: str, of: str, letters: str = "A-Za-z0-9_-") -> str:
    """Return a name that becomes part of a path, if it cannot lead to another folder.

    Parameters
    ----------
    name
        The name to check.
    of
        What is named, for the message: "a source".
    letters
        Allowed characters, as in the brackets of a regular expression.

    Raises
    ------
    UsageError
        If the name has other characters.
    """
    if not re.fullmatch(f"[{letters}]+", name):
        raise UsageError(f"{name!r} is not the name of {of}; use only the characters {letters}.")
    return name


_TEMPORARY_NAME = re.compile(r"[.#].*|__pycache__|.*(~|\.sw[op]|\.orig|\.bak|\.tmp)")


def is_temporary_name(name: str) -> bool:
    """Return whether a file or folder name is a checkpoint, backup or cache of an editor or tool."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def list_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files in a folder that match a pattern, sorted, without temporary files of editors and tools."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if not any(map(is_temporary_name, path.relative_to(folder).parts)) and path.is_file())


def daybook_home() -> Path:
    """Return the folder of lake, archive and report on a laptop: ``DAYBOOK_HOME``, else ``.daybook/`` in the checkout."""
    return Path(os.environ.get("DAYBOOK_HOME", project_root() / ".daybook")).resolve()


class Deployment(BaseModel):
    """Parameters of a deployment on AWS. Only `daybook deploy` reads them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: Optional[str] = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="AWS region.")
    parameters: dict[str, Union[StrictBool, StrictInt, StrictFloat, StrictStr]] = Field(
        default_factory=dict, description="Parameters of the templates in infra/, by name."
    )


def _validate_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a region without a city, such as Europe
        raise ValueError("not an IANA time zone such as Europe/Berlin") from None
    return value


TimeZone = Annotated[str, AfterValidator(_validate_time_zone)]
"""IANA name of a time zone."""


class Settings(BaseModel):
    """Settings of one deployment. After loading, locations are absolute paths or URIs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="Name of the shop on pages.")
    source: str = Field(description="Name of a file in params/sources/, without .yaml.")
    timezone: TimeZone = Field(description="IANA name. A business date is a calendar day in this time zone.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")
    landing: str = Field(description="Folder or URI where the source's files arrive.")
    lake: str = Field(description="Root folder or URI of all tables.")
    archive: str = Field(description="Root folder or URI of records and executed notebooks.")
    report: str = Field(description="Folder of the HTML report.")
    pii_key: str = Field(
        description="Keys of pseudonyms: a file (created on first use with mode 0600) or secretsmanager://NAME."
    )
    runs_on: Literal["laptop", "aws"] = Field(
        default="laptop", description="Where runs are executed: on this machine, or on AWS by the stacks of infra/."
    )
    engine: Literal["duckdb"] = "duckdb"
    max_rejected_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Maximum share of an entity's rows that may break a rule. Above it the outcome is REJECTED.",
    )
    tolerated_rejected_rows: int = Field(
        default=5, ge=0, description="Number of rejected rows of an entity that is always accepted, whatever their share."
    )
    returns_count_on: Literal["order_date", "return_date"] = Field(
        default="order_date", description="Date to which a returned line counts: the date of its order or of its return."
    )
    max_unpacked_bytes: int = Field(
        default=10 * 10**9, gt=0, description="Maximum uncompressed size of a landing file in bytes. A larger file is refused."
    )
    max_unpacked_ratio: int = Field(
        default=200,
        gt=0,
        description="Maximum ratio of uncompressed to compressed size of a landing file above 64 MiB.",
    )
    cell_output_bytes: int = Field(
        default=10**6,
        ge=50_000,
        description="Maximum bytes of a cell's output in an executed notebook. Of more, head and tail are kept with a note.",
    )
    notebook_output_bytes: int = Field(
        default=5 * 10**6, ge=50_000, description="Maximum bytes of the output of all cells in an executed notebook."
    )
    allow_missing: Annotated[bool, OVERRIDABLE_ON_AWS] = Field(
        default=False,
        description="Whether a re-run may remove an optional entity's rows if its files are no longer in landing.",
    )
    retention_days: int = Field(
        default=90, ge=0, description="`daybook vacuum` keeps the table versions that runs of this many past days recorded."
    )
    openlineage_url: Optional[str] = Field(
        default=None,
        description="URL to which OpenLineage events of closed runs are posted: https, or http on this machine.",
    )
    tell: Annotated[Literal["trouble", "always"], OVERRIDABLE_ON_AWS] = Field(
        default="trouble", description="When to send a message: `trouble` for warnings and failures only, or `always`."
    )
    prices: Optional[str] = Field(
        default=None, description="Name of a file in params/prices/, without .yaml. Without it no costs are computed."
    )
    default_run_date: Optional[date] = Field(default=None, description="Business date of a command without a date.")
    deployment: Optional[Deployment] = Field(default=None, description="Region and parameters of infra/, for `daybook deploy`.")

    # Not in the file: the arguments of load_settings, with which a stage loads the same settings.
    env: str = Field(exclude=True)
    overrides: dict[str, str] = Field(default_factory=dict, exclude=True)

    @property
    def command_options(self) -> str:
        """Command-line options that select these settings: ``--env``, and ``--set`` for each override."""
        return " ".join(["--env", self.env, *(f"--set {shlex.quote(f'{key}={text}')}" for key, text in self.overrides.items())])

    @field_validator(*LOCATIONS)
    @classmethod
    def _validate_location(cls, value: str, info: ValidationInfo) -> str:
        scheme, separator, _ = value.partition("://")
        if not value:
            raise ValueError("it should be a path or URI, not empty")
        if info.field_name == "pii_key" and separator and scheme != "secretsmanager":
            raise ValueError("it should be a file or secretsmanager:// and the name of a secret")
        if info.field_name != "pii_key" and separator and scheme != "s3":
            raise ValueError("it should be a folder or an s3:// URI")
        if scheme == "s3" and separator and (not _S3_URI.fullmatch(value) or {".", ".."} & set(value.split("/"))):
            raise ValueError("it should be s3://BUCKET/PREFIX without the segments . and .. and the characters ? # %")
        return value

    @field_validator("openlineage_url")
    @classmethod
    def _validate_endpoint(cls, value: Optional[str]) -> Optional[str]:
        if value is not None and not _ENDPOINT_URL.fullmatch(value):
            raise ValueError("it should be an https:// URL without a user and a query")
        if value is not None and value.startswith("http:") and not _is_loopback(value):
            raise ValueError("it should begin with https://; http:// is allowed for this machine only")
        return value


_S3_URI = re.compile(r"s3://[A-Za-z0-9._-]+(/[^/?#%]+)*")
_ENDPOINT_URL = re.compile(r"https?://[^\s@?#\\]+")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # Not an IP address.
        return False


def list_environments() -> list[str]:
    """Return the names of all deployments, which are the files in ``params/``."""
    return [path.stem for path in list_files(project_root() / "params", "*.yaml")]


def load_settings(env: str, overrides: Optional[dict[str, str]] = None) -> Settings:
    """Read ``params/<env>.yaml``, apply overrides and make every location absolute.

    Parameters
    ----------
    env
        Name of the deployment.
    overrides
        Values by key, as given with ``--set``. A relative location is resolved against the working folder.

    Raises
    ------
    UsageError
        If ``env`` is not a plain name.
    ParamsError
        If a file, key or value is invalid. The message names the file, the key and the allowed values.
    """
    overrides = dict(overrides or {})
    path = project_root() / "params" / f"{require_name(env, 'a deployment')}.yaml"
    if not path.is_file():
        raise ParamsError(f"There is no params/{env}.yaml; choose one of: {', '.join(list_environments()) or 'none'}.")
    values = read_yaml(path)
    allowed = [name for name, field in Settings.model_fields.items() if not field.exclude]
    for key in (*overrides, *_list_keys(values)):
        if looks_secret(key):
            raise ParamsError(
                f"{'--set' if key in overrides else f'params/{env}.yaml'}: key {key!r} looks like a secret, which must not be "
                "written here; put it into a secret store and give its name in a key that ends in _secret_name."
            )
    for key, value in overrides.items():
        if key not in allowed:
            raise ParamsError(f"--set {key}={value}: there is no key {key!r}; the keys are: {', '.join(allowed)}.")
        _require_overridable(key, value, values, env)
        if key in LOCATIONS:
            overrides[key] = _resolve_location(value, base=Path.cwd())
    values.update(overrides)
    for key in LOCATIONS:
        if isinstance(values.get(key), str):
            values[key] = _resolve_location(values[key], base=project_root())
    for key in ("env", "overrides"):
        if key in values:
            raise ParamsError(f"params/{env}.yaml: key {key!r} is not allowed in a file; remove it.")
    try:
        settings = Settings(env=env, overrides=overrides, **values)
    except ValidationError as error:
        overridden = error.errors()[0]["loc"][0] in overrides
        raise ParamsError(format_validation_error(error, "--set" if overridden else f"params/{env}.yaml", allowed)) from None
    _require_disjoint_locations(settings)
    _require_s3_uris(settings)
    return settings


def _require_overridable(key: str, value: str, file: dict[str, Any], env: str) -> None:
    """Raise ``ParamsError`` for an override of a setting that only the deployment's file may set."""
    if key == "runs_on":
        raise ParamsError(f"--set: key 'runs_on' cannot be overridden; change params/{env}.yaml or use another --env.")
    allowed = [name for name, field in Settings.model_fields.items() if OVERRIDABLE_ON_AWS in field.metadata]
    if file.get("runs_on") == "aws" and key not in allowed:
        raise ParamsError(
            f"--set: key {key!r} cannot be overridden if runs_on is aws (only {' and '.join(allowed)} can); "
            f"change params/{env}.yaml and deploy it."
        )
    if key == "openlineage_url" and not _is_loopback(value):
        host = urlsplit(value).hostname
        if host is None or host != urlsplit(str(file.get(key) or "")).hostname:
            raise ParamsError(
                f"--set: key 'openlineage_url' has the host {host}, which is not the host in params/{env}.yaml; "
                "write the URL into that file."
            )


def _require_s3_uris(settings: Settings) -> None:
    """Raise ``ParamsError`` if a deployment on AWS has a local folder as a location."""
    if settings.runs_on == "aws":
        for key in ("landing", "lake", "archive"):
            if "://" not in getattr(settings, key):
                raise ParamsError(
                    f"params/{settings.env}.yaml: key {key!r} is the local folder {getattr(settings, key)}, but runs_on is "
                    "aws; give an s3:// URI."
                )


def _require_disjoint_locations(settings: Settings) -> None:
    """Raise ``ParamsError`` if a location equals another one or is inside it.

    Erasing and rekeying remove files of the lake that belong to no table, everyone with write access to landing provides
    input, and the key must not be served or archived.
    """
    for inner, outer in itertools.permutations(LOCATIONS, 2):
        location, parent = getattr(settings, inner), getattr(settings, outer)
        if f"{location}/".startswith(f"{parent.rstrip('/')}/"):  # The root folder already ends with a slash.
            where = "--set" if {inner, outer} & set(settings.overrides) else f"params/{settings.env}.yaml"
            raise ParamsError(
                f"{where}: key {inner!r} is {location}, which is inside {outer!r} ({parent}); "
                f"choose separate locations for {inner} and {outer}."
            )


def require_own_lake(settings: Settings) -> None:
    """Raise ``ParamsError`` if a deployment of another source has the same lake or archive, whose rows would be replaced."""
    for name in list_environments():
        if name == settings.env:
            continue
        try:
            other = load_settings(name)
        except ParamsError:
            continue  # `daybook check` reports errors of other deployments.
        for key in ("lake", "archive"):
            if other.source != settings.source and getattr(other, key) == getattr(settings, key):
                raise ParamsError(
                    f"params/{settings.env}.yaml: key {key!r} is {getattr(settings, key)}, which params/{name}.yaml uses for "
                    f"the source {other.source!r}; give each source its own {key}."
                )


@dataclass(frozen=True)
class DateRange:
    """Contiguous business dates from ``first`` to ``last``, both included; often one date."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def list(self) -> list[date]:
        """Return the dates, oldest first."""
        return [self.first + timedelta(days=number) for number in range(len(self))]


MAX_RANGE_DATES = 366
"""Maximum number of dates of one run."""


def parse_date_range(text: str) -> DateRange:
    """Return the business dates from ``YYYY-MM-DD``, or ``YYYY-MM-DD..YYYY-MM-DD`` for a range.

    Raises ``UsageError`` for any other text, for a last date before the first one, and for too many dates.
    """
    first, dots, last = text.partition("..")
    dates = DateRange(parse_run_date(first), parse_run_date(last if dots else first))
    if dates.last < dates.first:
        raise UsageError(f"The last date {dates.last} is before the first, {dates.first}; give the earlier date first.")
    if len(dates) > MAX_RANGE_DATES:
        raise UsageError(
            f"{dates} are {len(dates):,} dates, and one run takes up to {MAX_RANGE_DATES}; `daybook backfill {dates.first} "
            f"{dates.last}` runs them in several runs."
        )
    return dates


def parse_run_date(text: str) -> date:
    """Return a business date from ``YYYY-MM-DD``. Raises ``UsageError`` for any other text."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a business date; write it as YYYY-MM-DD, for example 2025-11-30.") from None


def read_yaml(path: Path, *, as_text: bool = False) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises ``ParamsError`` that names file and line.

    With ``as_text``, values stay texts as they are written, except null: 1.10, 007 and NO are not converted.
    """
    name = display_path(path)
    ((_, content),) = read_contents([path])
    try:
        loaded = yaml.load(content, Loader=_TextLoader if as_text else _UniqueKeyLoader)  # noqa: S506 (SafeLoaders)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ParamsError(f"{name}, line {line}: not valid YAML ({error.problem}); fix that line.") from None
    except yaml.reader.ReaderError as error:
        raise ParamsError(f"{name} cannot be read ({' '.join(str(error).split())}); save it as UTF-8 text.") from None
    if not isinstance(loaded, dict):
        raise ParamsError(f"{name}: expected a mapping, found {type(loaded).__name__}; write lines of key: value.")
    for key in loaded:
        if not isinstance(key, str):
            raise ParamsError(f"{name}: key {key!r} is not a string; write it in quotes.")
    return loaded


FileContents = tuple[tuple[Path, bytes], ...]


def read_contents(paths: Iterable[Path]) -> FileContents:
    """Return paths and contents of files: a cache key for objects built from them, valid in forked processes too.

    Raises ``ParamsError`` for a missing or unreadable file, and ``StorageError``, which is retried, for other I/O errors.
    """
    contents = []
    for path in paths:
        try:
            contents.append((path, path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise ParamsError(
                f"{display_path(path)} cannot be read ({error.strerror}); restore the file or change its permissions."
            ) from None
        except OSError as error:
            # Imported here, since it loads obstore, which most commands do not need.
            from daybook.storage import storage_read_error

            raise storage_read_error(display_path(path), error) from None
    return tuple(contents)


def format_validation_error(error: ValidationError, where: str, allowed: Optional[list[str]] = None) -> str:
    """Return one sentence about a model's first error: file, key, reason and, for an unknown key, the known keys."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where}: key {key!r} is missing; add it."
    if first["type"] == "extra_forbidden":
        known = f"; the keys are: {', '.join(allowed)}" if allowed and len(first["loc"]) == 1 else "; remove it"
        return f"{where}: there is no key {key!r}{known}."
    reason = re.sub(r"^[A-Z]\w+ should", "it should", first["msg"].replace("Value error, ", ""))
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # An error about a whole mapping names its location itself.
        return f"{where}: key {key!r}: {reason}." if key else f"{where}: {reason}."
    # User, password and query of a URL can be secrets.
    value = re.sub(r"//[^/@]*@|\?.*", "…", first["input"]) if "://" in str(first["input"]) else first["input"]
    shown = str(value) if isinstance(value, date) else repr(value)
    return f"{where}: key {key!r} is {shown}: {reason}."


_SECRET_WORD = re.compile(
    r"(?:\Apass|pass(?:word|wd|phrase|code)s?|pwd|\Apw|secrets?|tokens?|credentials?|bearer|\Adsn|\Ajwt|connection_?string|"
    r"webhook(?:_?url)?|(?:api|access|private|signing|encryption|hmac|secret|pass)_?keys?)"
)
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def looks_secret(name: str) -> bool:
    """Return whether a parameter name indicates a secret value: db_password, apiKey, AUTH_TOKEN.

    Names and identifiers of secrets pass: db_secret_name, db_secret_arn, AWS_ACCESS_KEY_ID.
    """
    parts = [part.lower() for part in _NAME_PART.findall(name)]
    if parts[-2:] in (["secret", "name"], ["secret", "arn"], ["key", "id"]):
        return False
    pairs = ["_".join(pair) for pair in zip(parts, parts[1:])]
    # A word can have a prefix without separator: dbpassword.
    return any(re.search(rf"{_SECRET_WORD.pattern}\Z", each) for each in (*parts, *pairs))


def _list_keys(values: Any) -> list[str]:
    """Return every key in loaded YAML, including those of nested mappings."""
    if isinstance(values, dict):
        return [found for key, value in values.items() for found in (str(key), *_list_keys(value))]
    return [found for each in values for found in _list_keys(each)] if isinstance(values, list) else []


def display_path(path: Path) -> str:
    """Return the path of a file within the project, for messages."""
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _resolve_location(location: str, base: Path) -> str:
    if not location.strip():
        return ""  # Validation refuses it. As a path it would be the base.
    location = location.replace("{home}", str(daybook_home()))
    if "://" in location:
        return location.rstrip("/")
    return str((base / Path(location).expanduser()).resolve())


# libyaml's loader if PyYAML has it: every stage reads all contracts, and the loader in Python is slow.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_SafeLoader):  # type: ignore[misc]
    """A loader that refuses duplicate keys, of which YAML keeps the last."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # For example the date 2025-11-31.
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # The call below refuses it.
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key_node.value!r}", key_node.start_mark)
            seen.add(key_node.value)
        return dict(super().construct_mapping(node, deep))


TEXT_RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in known if tag.endswith((":null", ":merge"))]
    for first, known in _SafeLoader.yaml_implicit_resolvers.items()
}
"""The plain scalars of YAML that are no text for ``read_yaml(as_text=True)``: null and the merge key <<."""


class _TextLoader(_UniqueKeyLoader):
    """A loader of texts."""

    yaml_implicit_resolvers = TEXT_RESOLVERS
