"""The places that settings are looked for in, each read into raw values with their source."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.cache import VARIABLE as CACHE_VARIABLE
from comfyloom._core.json import is_mapping, mapping
from comfyloom._core.suggestions import did_you_mean
from comfyloom.settings.fields import SettingMeta

CREDENTIALS: Final = ("credentials.txt", "runcomfy/credentials.txt")
PREFIX: Final = "COMFYLOOM_"
CREDENTIALS_VARIABLE: Final = "COMFYLOOM_CREDENTIALS"
# Variables of ours that are no settings.
_OTHERS: Final = (CREDENTIALS_VARIABLE, CACHE_VARIABLE)
# Tables below [tool.comfyloom] that are somebody else's.
_TABLES: Final = ("codegen",)
_MARKS: Final = (".comfyloom", "pyproject.toml", ".git")
_LINE: Final = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*[:=]\s*(?P<value>.*?)\s*$")


@attrs.frozen
class RawValue:
    """A value as a place has it, and the place, for people."""

    raw: object
    source: str


@attrs.define
class Source:
    """What one place has.

    Attributes:
        values: By the name of the setting.
        problems: What is wrong with the place.
        warnings: What is not wrong, but should be told.
    """

    values: dict[str, RawValue] = attrs.field(factory=dict[str, RawValue])
    problems: list[str] = attrs.field(factory=list[str])
    warnings: list[str] = attrs.field(factory=list[str])


def project_folder(cwd: Path) -> Path:
    """Return the nearest folder at or above `cwd` that looks like a project's, else `cwd`."""
    here = cwd.absolute()
    for folder in (here, *here.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return here


def arguments(given: Mapping[str, object]) -> Source:
    """Return what a caller gave; None and an empty text were not given."""
    found = {
        name: RawValue(value, "argument")
        for name, value in given.items()
        if value not in (None, "")
    }
    return Source(found)


def environment(environ: Mapping[str, str], settings: Mapping[str, SettingMeta]) -> Source:
    """Return what environment variables have; an empty one has nothing."""
    place = Source()
    for name, names in settings.items():
        for variable in names.variables:
            if name not in place.values and (value := environ.get(variable, "").strip()):
                place.values[name] = RawValue(value, variable)
    place.problems = [*_misspelt(environ, settings)]
    return place


def _misspelt(environ: Mapping[str, str], settings: Mapping[str, SettingMeta]) -> Iterator[str]:
    """Yield variables that look like ours and are none: a limit must not be missed over a typo."""
    ours = (*(v for names in settings.values() for v in names.variables), *_OTHERS)
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in ours:
            yield f"{variable} is no setting{did_you_mean(variable, ours)}"


def project(cwd: Path, settings: Mapping[str, SettingMeta]) -> Source:
    """Return what `[tool.comfyloom]` of the nearest pyproject.toml has."""
    path = project_folder(cwd) / "pyproject.toml"
    try:
        text = path.read_text("utf-8")
    except OSError:
        return Source()
    except UnicodeDecodeError:
        return Source(problems=[f"{path}: it is no UTF-8 text"])
    import tomllib  # when there is such a file

    try:
        table = _table(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        return Source(problems=[f"{path}: {error}"])
    where = f"{path} [tool.comfyloom]"
    if not is_mapping(table):
        return Source(problems=[f"{where}: a table is expected"])
    return _of_table(mapping(table), where, settings)


def _table(document: Mapping[str, Any]) -> object:
    return mapping(document.get("tool")).get("comfyloom", {})


def _of_table(
    table: Mapping[str, object], where: str, settings: Mapping[str, SettingMeta]
) -> Source:
    place = Source()
    allowed = tuple(name for name, names in settings.items() if not names.is_secret)
    for name, raw in table.items():
        if name in allowed:
            place.values[name] = RawValue(raw, where)
        elif name in settings:
            place.problems.append(f"{where}: {name} does not belong into a file that is shared")
        elif name not in _TABLES:
            place.problems.append(f"{where}: {name} is no setting{did_you_mean(name, allowed)}")
    return place


def credentials(
    named: str | os.PathLike[str] | None, cwd: Path, settings: Mapping[str, SettingMeta]
) -> tuple[Source, bool]:
    """Return what the credentials file has that is named, or else found, and whether it was named.

    A file that was only found may be somebody else's: what is wrong with it matters only when
    something is missing.
    """
    usual = (place for place in _usual(cwd) if place.is_file())
    path = Path(named).expanduser() if named else next(usual, None)
    if path is None:
        return Source(), False
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return Source(problems=[f"credentials file: {path} is not there"]), True
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        return Source(problems=[f"credentials file: cannot read {path}: {reason}"]), True
    place = _of_lines(text, path, settings)
    place.warnings = [*_open_to_others(path)] if place.values else []
    return place, bool(named)


def _usual(cwd: Path) -> Iterator[Path]:
    for folder in (cwd, project_folder(cwd)):
        for name in CREDENTIALS:
            yield folder / name
    # Imported when it comes to that: most projects have a file of their own.
    from platformdirs import user_config_path

    yield user_config_path("comfyloom", appauthor=False) / "credentials.txt"


def _open_to_others(path: Path) -> Iterator[str]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        yield f"other users can read {path} (mode {mode:04o}): chmod 600 it"


def _of_lines(text: str, path: Path, settings: Mapping[str, SettingMeta]) -> Source:
    spellings = {
        spelling.lower(): name
        for name, names in settings.items()
        for spelling in (*names.variables, *names.in_file)
    }
    place = Source()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:  # the line itself may hold a secret, so it is not shown
            place.problems.append(f"{path}, line {number}: `name: value` is expected")
            continue
        name, value = spellings.get(match["name"].lower()), _unquoted(match["value"])
        if name and value:
            place.values.setdefault(name, RawValue(value, str(path)))
        elif name is None and match["name"].upper().startswith(PREFIX):
            known = tuple(spelling.upper() for spelling in spellings)
            hint = did_you_mean(match["name"].upper(), known)
            place.problems.append(f"{path}, line {number}: {match['name']} is no setting{hint}")
    return place


def _unquoted(value: str) -> str:
    """Return a value without its quotes, or without the comment behind it."""
    if value[:1] in ("'", '"'):
        return value[1:].partition(value[0])[0]
    return value.partition(" #")[0].strip()
