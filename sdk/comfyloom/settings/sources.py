"""The sources of settings, each read into raw values that remember where they came from."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.cache import VARIABLE as CACHE_VARIABLE
from comfyloom._core.json import is_mapping, mapping
from comfyloom._core.redact import register_secret
from comfyloom._core.suggestions import did_you_mean
from comfyloom._core.user_folders import user_folder
from comfyloom.settings.declaration import SettingMeta, expanded

_TABLE: Final = "comfyloom"
CREDENTIALS: Final = ("credentials.txt", "runcomfy/credentials.txt")
PREFIX: Final = "COMFYLOOM_"
CREDENTIALS_VARIABLE: Final = "COMFYLOOM_CREDENTIALS"
# Variables with our prefix that are not settings.
_OTHER_VARIABLES: Final = (CREDENTIALS_VARIABLE, CACHE_VARIABLE)
# Tables below [tool.comfyloom] that belong to another package.
_OTHER_TABLES: Final = ("codegen",)
_PROJECT_MARKERS: Final = (".comfyloom", "pyproject.toml", ".git")
_LINE: Final = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*[:=]\s*(?P<value>.*?)\s*$")


@attrs.frozen
class RawValue:
    """A value before parsing, and its human-readable source."""

    raw: object
    source: str


@attrs.define
class Source:
    """The settings found in one place.

    Attributes:
        values: Raw values by the name of the setting.
        problems: Errors in the place, one line each.
        warnings: What should be reported, but is not an error.
    """

    values: dict[str, RawValue] = attrs.field(factory=dict[str, RawValue])
    problems: list[str] = attrs.field(factory=list[str])
    warnings: list[str] = attrs.field(factory=list[str])


def project_folder(cwd: Path) -> Path:
    """Return the nearest folder at or above `cwd` that looks like a project, else `cwd`."""
    here = cwd.absolute()
    for folder in (here, *here.parents):
        if any((folder / marker).exists() for marker in _PROJECT_MARKERS):
            return folder
    return here


def arguments(given: Mapping[str, object]) -> Source:
    """Return the settings passed as arguments; None and an empty string count as not given."""
    found = {
        name: RawValue(value, "argument")
        for name, value in given.items()
        if value not in (None, "")
    }
    return Source(found)


def environment(
    environ: Mapping[str, str],
    settings: Mapping[str, SettingMeta],
    known: Mapping[str, SettingMeta],
) -> Source:
    """Return the settings in environment variables; an empty variable counts as not set.

    Args:
        environ: The variables.
        settings: The metadata of each setting to return.
        known: The same of all settings, so that a misspelt one is noticed.
    """
    source = Source()
    for name, meta in settings.items():
        for variable in meta.variables:
            if name not in source.values and (value := environ.get(variable, "").strip()):
                source.values[name] = RawValue(value, variable)
    source.problems = [*_unknown_variables(environ, known)]
    return source


def _unknown_variables(
    environ: Mapping[str, str], settings: Mapping[str, SettingMeta]
) -> Iterator[str]:
    """Yield a problem for each unknown variable with our prefix: a typo must not drop a limit."""
    known = (*(v for meta in settings.values() for v in meta.variables), *_OTHER_VARIABLES)
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            yield f"{variable} is not a setting{did_you_mean(variable, known)}"


def project(
    cwd: Path, settings: Mapping[str, SettingMeta], known: Mapping[str, SettingMeta]
) -> Source:
    """Return the settings in `[tool.comfyloom]` of the nearest pyproject.toml."""
    path = project_folder(cwd) / "pyproject.toml"
    try:
        text = path.read_text("utf-8")
    except OSError:
        return Source()
    except UnicodeDecodeError:
        return Source(problems=[f"{path}: it is not UTF-8 text"])
    if _TABLE not in text:  # most likely, and the parser takes milliseconds to import
        return Source()
    import tomllib

    try:
        document: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Source(problems=[f"{path}: {error}"])
    table = mapping(document.get("tool")).get("comfyloom", {})
    where = f"{path} [tool.comfyloom]"
    if not is_mapping(table):
        return Source(problems=[f"{where}: expected a table"])
    return _from_table(mapping(table), where, settings, known)


def _from_table(
    table: Mapping[str, object],
    where: str,
    settings: Mapping[str, SettingMeta],
    known: Mapping[str, SettingMeta],
) -> Source:
    source = Source()
    allowed = tuple(name for name, meta in known.items() if not meta.is_secret)
    for name, raw in table.items():
        if name in allowed:
            if name in settings:
                source.values[name] = RawValue(raw, where)
        elif name in known:
            source.problems.append(
                f"{where}: {name} is secret and must not be in a file that is shared"
            )
        elif name not in _OTHER_TABLES:
            source.problems.append(f"{where}: {name} is not a setting{did_you_mean(name, allowed)}")
    return source


def credentials(
    named: str | os.PathLike[str] | None,
    cwd: Path,
    settings: Mapping[str, SettingMeta],
    known: Mapping[str, SettingMeta],
) -> tuple[Source, bool]:
    """Return the settings in the credentials file, and whether the file is certainly meant.

    A file that the caller did not name, but that was found in a default place, may belong to
    another program: its errors matter only if a required setting is missing.

    Args:
        named: The file that the caller named, None to look in the default places.
        cwd: The current folder.
        settings: The metadata of each setting to return.
        known: The same of all settings.
    """
    existing = (path for path in _default_paths(cwd) if path.is_file())
    try:
        path = expanded(named) if named else next(existing, None)
    except ValueError as error:
        return Source(problems=[f"credentials file: {error}"]), True
    if path is None:
        return Source(), False
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return Source(problems=[f"credentials file: {path} does not exist"]), True
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return Source(problems=[f"credentials file: cannot read {path}: {reason}"]), True
    source = _from_lines(text, path, settings, known)
    source.warnings = [*_permission_warnings(path)] if source.values else []
    return source, bool(named)


def official_token(environ: Mapping[str, str]) -> Source:
    """Return the token of RunComfy's own command line (`token.json`), which is never written.

    An expired one is a problem; a file that cannot be read belongs to another program.
    """
    folder = _official_folder(environ)
    if folder is None:
        return Source()
    path = folder / "token.json"
    try:
        known = mapping(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return Source()
    token = known.get("access_token")
    if not isinstance(token, str) or not token.strip():
        return Source()
    register_secret(token.strip())
    if (expired := _expired_at(known.get("expires_at"))) is not None:
        return Source(
            problems=[f"api_token (from {path}): it expired at {expired}: run comfyloom login"]
        )
    return Source({"api_token": RawValue(token, str(path))})


def _official_folder(environ: Mapping[str, str]) -> Path | None:
    if given := environ.get("RUNCOMFY_CONFIG_DIR"):
        return Path(given)
    home = environ.get("HOME") or environ.get("USERPROFILE")
    config = environ.get("XDG_CONFIG_HOME") or (home and Path(home, ".config"))
    return Path(config, "runcomfy") if config else None


def _expired_at(value: object) -> str | None:
    """Return when a token expired, None if it has not; an unreadable time does not count."""
    try:
        if isinstance(value, int | float):
            # Some programs write milliseconds.
            moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment <= datetime.now(UTC) else None


def _default_paths(cwd: Path) -> Iterator[Path]:
    for folder in (cwd, project_folder(cwd)):
        for name in CREDENTIALS:
            yield folder / name
    # Looked for last: most projects have their own file.
    if (config := user_folder("config")) is not None:
        yield config / "credentials.txt"


def _permission_warnings(path: Path) -> Iterator[str]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        yield f"other users can read {path} (mode {mode:04o}): run chmod 600 on it"


def _from_lines(
    text: str,
    path: Path,
    settings: Mapping[str, SettingMeta],
    known: Mapping[str, SettingMeta],
) -> Source:
    spellings = {
        spelling.lower(): name
        for name, meta in known.items()
        for spelling in (*meta.variables, *meta.file_names)
    }
    source = Source()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:  # the line may contain a secret, so it is not shown
            source.problems.append(f"{path}, line {number}: expected `name: value`")
            continue
        name, value = spellings.get(match["name"].lower()), _unquote(match["value"])
        if name is not None and name in settings and value:
            source.values.setdefault(name, RawValue(value, str(path)))
        elif name is None and match["name"].upper().startswith(PREFIX):
            all_names = tuple(spelling.upper() for spelling in spellings)
            hint = did_you_mean(match["name"].upper(), all_names)
            source.problems.append(f"{path}, line {number}: {match['name']} is not a setting{hint}")
    return source


def _unquote(value: str) -> str:
    """Return a value without its quotes, or without a comment after it."""
    if value[:1] in ("'", '"'):
        return value[1:].partition(value[0])[0]
    return value.partition(" #")[0].strip()
