"""The settings of one deployment: ``params/<env>.yaml``, complete, typed, with overrides from the command line."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import shlex
from collections.abc import Iterable
from datetime import date
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

from daybook.errors import DaybookError, ParamsError, UsageError

LOCATIONS = ("landing", "lake", "archive", "report", "pii_key")
"""The settings that name a place: relative ones are relative to the project, or to the working folder when overridden."""
OVERRIDABLE_ON_AWS = "may be overridden on AWS"
"""Marks a setting that an execution on AWS may override. All others are those of the deployed file: the input of an execution
must not move a place, change the source, or switch off a gate or a limit."""


def project_root() -> Path:
    """The checkout (or the unpacked bundle) that holds ``notebooks/``, ``params/`` and ``orchestration/``."""
    return Path(os.environ.get("DAYBOOK_PROJECT", Path(__file__).resolve().parents[2]))


def require_name(name: str, of: str, letters: str = "A-Za-z0-9_-") -> str:
    """Return a name that becomes part of a path; ``UsageError`` for one that could lead to another folder.

    ``of`` is what is named, for the message: "a source". ``letters`` are the characters of a name, as in a regular expression.
    """
    if not re.fullmatch(f"[{letters}]+", name):
        raise UsageError(f"{name!r} is not the name of {of}; such a name has only the characters {letters}.")
    return name


_TEMPORARY_NAME = re.compile(r"[.#].*|__pycache__|.*(~|\.sw[op]|\.orig|\.bak|\.tmp)")


def is_temporary_name(name: str) -> bool:
    """Return whether a file or folder of this name is what an editor or a tool left: a checkpoint, a backup, a cache."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def list_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files in a folder that match one of the patterns, sorted, without what editors and tools left there."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if not any(map(is_temporary_name, path.relative_to(folder).parts)) and path.is_file())


def daybook_home() -> Path:
    """Where a laptop keeps lake, archive and report: ``DAYBOOK_HOME``, else ``.daybook/`` in the checkout."""
    return Path(os.environ.get("DAYBOOK_HOME", project_root() / ".daybook")).resolve()


class Deployment(BaseModel):
    """What a deployment on AWS is besides its places: `daybook deploy` reads it, and no run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: Optional[str] = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="AWS region.")
    parameters: dict[str, Union[StrictBool, StrictInt, StrictFloat, StrictStr]] = Field(
        default_factory=dict, description="Parameters of the templates in infra/, by name."
    )


def _validate_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        raise ValueError("not an IANA time zone such as Europe/Berlin") from None
    return value


TimeZone = Annotated[str, AfterValidator(_validate_time_zone)]
"""An IANA name of a time zone."""


class Settings(BaseModel):
    """One deployment. Locations are absolute paths or URIs once loaded; money is in ``currency``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="The shop's name, as pages show it.")
    source: str = Field(description="A file in params/sources/, without .yaml.")
    timezone: TimeZone = Field(description="IANA name; a day is this zone's calendar day.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")
    landing: str = Field(description="Folder or URI where the source's files arrive.")
    lake: str = Field(description="Root folder or URI of the tables.")
    archive: str = Field(description="Root folder or URI of run records and executed notebooks.")
    report: str = Field(description="Folder the HTML report is written to.")
    pii_key: str = Field(description="The keys of pseudonyms: a file (made on first use, 0600) or secretsmanager://NAME.")
    runs_on: Literal["laptop", "aws"] = Field(
        default="laptop", description="Where runs are executed: on the machine that asks, or by the stacks of infra/."
    )
    engine: Literal["duckdb"] = "duckdb"
    max_rejected_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Validation says REJECTED when a larger share of an entity's rows breaks a rule.",
    )
    tolerated_rejected_rows: int = Field(
        default=5, ge=0, description="So many rejected rows of an entity never stop a day, however few rows it has."
    )
    returns_count_on: Literal["order_date", "return_date"] = Field(
        default="order_date", description="Date in whose figures a returned line counts: of its order, or of its return."
    )
    max_unpacked_bytes: int = Field(
        default=10 * 10**9, gt=0, description="A landing file that unpacks to more bytes is refused."
    )
    max_unpacked_ratio: int = Field(
        default=200,
        gt=0,
        description="A landing file that unpacks to more than this times its size (and to more than 64 MiB) is refused.",
    )
    cell_output_bytes: int = Field(
        default=10**6,
        ge=50_000,
        description="Output of a cell that an executed notebook keeps: head and tail, with a note of what was left out.",
    )
    notebook_output_bytes: int = Field(
        default=5 * 10**6, ge=50_000, description="Output of all cells that an executed notebook keeps."
    )
    allow_missing: Annotated[bool, OVERRIDABLE_ON_AWS] = Field(
        default=False,
        description="Whether a re-run replaces an optional entity's rows by nothing if its files are no longer in landing.",
    )
    retention_days: int = Field(
        default=90, ge=0, description="`daybook vacuum` keeps the versions of tables that runs of so many days have on record."
    )
    openlineage_url: Optional[str] = Field(
        default=None,
        description="Endpoint that closed runs are posted to as OpenLineage events; https, or http on this machine.",
    )
    tell: Annotated[Literal["trouble", "always"], OVERRIDABLE_ON_AWS] = Field(
        default="trouble", description="Whether people get a message of good days without a warning, too."
    )
    prices: Optional[str] = Field(default=None, description="A file in params/prices/, without .yaml; without it no costs.")
    default_run_date: Optional[date] = Field(default=None, description="The business date when none is given.")
    deployment: Optional[Deployment] = Field(default=None, description="For `daybook deploy`: region, parameters of infra/.")

    # Not in the file: how this object came to be, so that it can be handed on to a stage.
    env: str = Field(exclude=True)
    overrides: dict[str, str] = Field(default_factory=dict, exclude=True)

    @property
    def options(self) -> str:
        """The options that give a command these settings: ``--env``, and ``--set`` for each override."""
        return " ".join(["--env", self.env, *(f"--set {shlex.quote(f'{key}={text}')}" for key, text in self.overrides.items())])

    @field_validator(*LOCATIONS)
    @classmethod
    def _validate_location(cls, value: str, info: ValidationInfo) -> str:
        scheme, separator, _ = value.partition("://")
        if not value:
            raise ValueError("it should be the name of a place, not empty")
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
            raise ValueError("it should begin with https://; http:// is for an endpoint on this machine")
        return value


_S3_URI = re.compile(r"s3://[A-Za-z0-9._-]+(/[^/?#%]+)*")
_ENDPOINT_URL = re.compile(r"https?://[^\s@?#\\]+")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # Another name.
        return False


def list_environments() -> list[str]:
    """The deployments there are: the names of the files in ``params/``."""
    return [path.stem for path in list_files(project_root() / "params", "*.yaml")]


def load_settings(env: str, overrides: Optional[dict[str, str]] = None) -> Settings:
    """Read ``params/<env>.yaml``, apply overrides, and make every location absolute.

    Raises ``ParamsError`` that names the file, the key and what is allowed.
    """
    overrides = dict(overrides or {})
    path = project_root() / "params" / f"{require_name(env, 'a deployment')}.yaml"
    if not path.is_file():
        raise ParamsError(f"There is no params/{env}.yaml; the environments are: {', '.join(list_environments()) or 'none'}.")
    values = read_yaml(path)
    allowed = [name for name, field in Settings.model_fields.items() if not field.exclude]
    for key in (*overrides, *_list_keys(values)):
        if looks_secret(key):
            raise ParamsError(
                f"{'--set' if key in overrides else f'params/{env}.yaml'}: key {key!r} looks like a secret, and only names of "
                "secrets pass; keep it in a secret store and give its name, under a key that ends in _secret_name."
            )
    for key, value in overrides.items():
        if key not in allowed:
            raise ParamsError(f"--set {key}={value}: params have no key {key!r}; the keys are: {', '.join(allowed)}.")
        _require_overridable(key, value, values, env)
        if key in LOCATIONS:
            overrides[key] = _resolve_location(value, base=Path.cwd())
    values.update(overrides)
    for key in LOCATIONS:
        if isinstance(values.get(key), str):
            values[key] = _resolve_location(values[key], base=project_root())
    for key in ("env", "overrides"):
        if key in values:
            raise ParamsError(f"params/{env}.yaml: key {key!r} is not for the file; remove it.")
    try:
        settings = Settings(env=env, overrides=overrides, **values)
    except ValidationError as error:
        given = error.errors()[0]["loc"][0] in overrides
        raise ParamsError(format_validation_error(error, "--set" if given else f"params/{env}.yaml", allowed)) from None
    _require_disjoint_locations(settings)
    _require_s3_uris(settings)
    return settings


def _require_overridable(key: str, value: str, file: dict[str, Any], env: str) -> None:
    """Refuse to override what only the file of a deployment may say."""
    if key == "runs_on":
        raise ParamsError(f"--set: key 'runs_on' cannot be overridden; change params/{env}.yaml, or give another --env.")
    known = [name for name, field in Settings.model_fields.items() if OVERRIDABLE_ON_AWS in field.metadata]
    if file.get("runs_on") == "aws" and key not in known:
        raise ParamsError(
            f"--set: key {key!r} cannot be overridden where runs_on is aws (only {' and '.join(known)} can); "
            f"change params/{env}.yaml and deploy it."
        )
    if key == "openlineage_url" and not _is_loopback(value):
        host = urlsplit(value).hostname
        if host is None or host != urlsplit(str(file.get(key) or "")).hostname:
            raise ParamsError(
                f"--set: key 'openlineage_url' leads to {host}, which params/{env}.yaml does not name; "
                "write the URL into that file."
            )


def _require_s3_uris(settings: Settings) -> None:
    """Refuse a deployment on AWS with a folder for a place: what runs there sees no other machine's."""
    if settings.runs_on == "aws":
        for key in ("landing", "lake", "archive"):
            if "://" not in getattr(settings, key):
                raise ParamsError(
                    f"params/{settings.env}.yaml: key {key!r} is {getattr(settings, key)}, but runs_on is aws, where no folder "
                    "of this machine is seen; give an s3:// URI."
                )


def _require_disjoint_locations(settings: Settings) -> None:
    """Refuse a place that is another one or lies in it.

    Erasing and rekeying remove what is in the lake and in no table, landing files are input for everybody who may write there,
    and the key must not be served or archived with anything.
    """
    for inner, outer in itertools.permutations(LOCATIONS, 2):
        place, around = getattr(settings, inner), getattr(settings, outer)
        if f"{place}/".startswith(f"{around.rstrip('/')}/"):  # The root has its slash already.
            where = "--set" if {inner, outer} & set(settings.overrides) else f"params/{settings.env}.yaml"
            raise ParamsError(
                f"{where}: key {inner!r} is {place}, which lies in {outer!r} ({around}); "
                f"give {' and '.join((inner, outer))} places outside of each other."
            )


def require_own_lake(settings: Settings) -> None:
    """Refuse a lake or archive that another deployment keeps another source in: their rows would replace each other."""
    for name in list_environments():
        if name == settings.env:
            continue
        try:
            other = load_settings(name)
        except ParamsError:
            continue  # What is wrong with another deployment is not this one's to say; `daybook check` does.
        for key in ("lake", "archive"):
            if other.source != settings.source and getattr(other, key) == getattr(settings, key):
                raise ParamsError(
                    f"params/{settings.env}.yaml: key {key!r} is {getattr(settings, key)}, where params/{name}.yaml keeps "
                    f"the source {other.source!r}; give each source a {key} of its own."
                )


def parse_run_date(text: str) -> date:
    """A business date from ``YYYY-MM-DD``."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a business date; write it as YYYY-MM-DD, for example 2025-11-30.") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; errors name file and line."""
    name = _display_path(path)
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ParamsError(f"{name}, line {line}: not valid YAML ({error.problem}); mend that line.") from None
    except OSError as error:
        raise _wrap_read_error(path, error) from None
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ParamsError(f"{name} cannot be read ({' '.join(str(error).split())}); save it as UTF-8 text.") from None
    if not isinstance(loaded, dict):
        raise ParamsError(f"{name}: expected keys and values, found {type(loaded).__name__}; write lines of key: value.")
    for key in loaded:
        if not isinstance(key, str):
            raise ParamsError(f"{name}: key {key!r} is not a text; write it in quotes.")
    return loaded


FileContents = tuple[tuple[Path, bytes], ...]


def read_contents(paths: Iterable[Path]) -> FileContents:
    """What files hold now: the key for what was made of them, by which a forked process can take over what its parent made."""
    found = []
    for path in paths:
        try:
            found.append((path, path.read_bytes()))
        except OSError as error:
            raise _wrap_read_error(path, error) from None
    return tuple(found)


def _wrap_read_error(path: Path, error: OSError) -> DaybookError:
    """Return ``ParamsError`` for a file that is missing or forbidden; a disk that fails is a fault, which is retried."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)):
        return ParamsError(
            f"{_display_path(path)} cannot be read ({error.strerror}); restore the file or change its permissions."
        )
    # Imported here: it loads obstore, which most commands do without.
    from daybook.storage import storage_read_error

    return storage_read_error(_display_path(path), error)


def format_validation_error(error: ValidationError, where: str, allowed: Optional[list[str]] = None) -> str:
    """One sentence for the first thing a model refused: file, key, reason and, for an unknown key, the known ones."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where}: key {key!r} is missing; add it."
    if first["type"] == "extra_forbidden":
        known = f"; the keys are: {', '.join(allowed)}" if allowed and len(first["loc"]) == 1 else "; remove it"
        return f"{where}: there is no key {key!r}{known}."
    reason = re.sub(r"^[A-Z]\w+ should", "it should", first["msg"].replace("Value error, ", ""))
    # What an address carries besides its place may be a secret.
    given = re.sub(r"//[^/@]*@|\?.*", "…", first["input"]) if "://" in str(first["input"]) else first["input"]
    said = str(given) if isinstance(given, date) else repr(given)
    return f"{where}: key {key!r} is {said}: {reason}."


_SECRET_WORD = re.compile(
    r"(?:\Apass|pass(?:word|wd|phrase|code)s?|pwd|\Apw|secrets?|tokens?|credentials?|bearer|\Adsn|\Ajwt|connection_?string|"
    r"webhook(?:_?url)?|(?:api|access|private|signing|encryption|hmac|secret|pass)_?keys?)"
)
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def looks_secret(name: str) -> bool:
    """Return whether a parameter of this name would hold a secret: db_password, apiKey, AUTH_TOKEN.

    Names and identifiers of secrets are none: db_secret_name, db_secret_arn, AWS_ACCESS_KEY_ID.
    """
    parts = [part.lower() for part in _NAME_PART.findall(name)]
    if parts[-2:] in (["secret", "name"], ["secret", "arn"], ["key", "id"]):
        return False
    pairs = ["_".join(pair) for pair in zip(parts, parts[1:])]
    # A word may be written together with what comes before it: dbpassword.
    return any(re.search(rf"{_SECRET_WORD.pattern}\Z", each) for each in (*parts, *pairs))


def _list_keys(values: Any) -> list[str]:
    """Every key of some YAML, also of mappings in mappings."""
    if isinstance(values, dict):
        return [found for key, value in values.items() for found in (str(key), *_list_keys(value))]
    return [found for each in values for found in _list_keys(each)] if isinstance(values, list) else []


def _display_path(path: Path) -> str:
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _resolve_location(location: str, base: Path) -> str:
    if not location.strip():
        return ""  # Refused later. As a path it would be the base itself.
    location = location.replace("{home}", str(daybook_home()))
    if "://" in location:
        return location.rstrip("/")
    return str((base / Path(location).expanduser()).resolve())


# libyaml's loader where PyYAML was built with it: every stage reads all contracts, and the loader in Python is slow.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_SafeLoader):  # type: ignore[misc]
    """YAML lets a key stand twice and keeps the last: in settings that is always a mistake."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a date such as 2025-11-31
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # refused below
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key_node.value!r} stands twice", key_node.start_mark)
            seen.add(key_node.value)
        return dict(super().construct_mapping(node, deep))
