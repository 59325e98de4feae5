"""The settings of the generator: `[tool.comfyloom.codegen]` in pyproject.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Self

import attrs

from comfyloom._core.json import is_mapping, mapping
from comfyloom._core.suggestions import did_you_mean, nearest
from comfyloom.errors import ConfigError

FILE: Final = "pyproject.toml"
TABLE: Final = "tool.comfyloom.codegen"


@attrs.frozen(kw_only=True)
class Project:
    """The folder of workflow files and the package generated from it.

    Attributes:
        workflows: The folder of workflow files.
        out: The folder that holds the package.
        package: The name of the package.
    """

    workflows: Path = Path("workflows")
    out: Path = Path("generated")
    package: str = "comfyloom_workflows"

    @classmethod
    def read(cls, here: Path) -> Self:
        """Return the settings of the nearest pyproject.toml, in `here` or above; else the defaults.

        Paths in the file are relative to the file; the paths returned are relative to `here`.

        Raises:
            ConfigError: The file cannot be read, or settings are wrong; all of them are listed.
        """
        found = next(
            (each / FILE for each in (here, *here.parents) if (each / FILE).is_file()), None
        )
        table = _table(found) if found else {}
        return cls(**_checked(table, found, here)) if found else cls()

    def with_overrides(self, workflows: Path | None, out: Path | None, package: str | None) -> Self:
        """Return the same with the values given on the command line."""
        return attrs.evolve(
            self,
            workflows=workflows or self.workflows,
            out=out or self.out,
            package=package or self.package,
        )


def _table(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        found: object = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{FILE} cannot be read: {error}") from None
    above: object = {}
    for key in TABLE.split("."):
        above, found = found, mapping(found).get(key, {})
    if not found and (near := _misspelled(above)):
        raise ConfigError(f"{FILE}: unknown table tool.comfyloom.{near}; did you mean {TABLE}?")
    if not is_mapping(found):
        raise ConfigError(f"{FILE}: {TABLE} is not a table")
    return found


def _misspelled(tables: object) -> str | None:
    """Return the name of a table that is almost `codegen`, None if there is none."""
    names = [key for key, value in mapping(tables).items() if is_mapping(value)]
    return nearest("codegen", names, 0.7)


def _checked(table: dict[str, Any], path: Path, here: Path) -> dict[str, Any]:
    known = [field.name for field in attrs.fields(Project)]
    problems = [
        f"{FILE}: {TABLE}: unknown key {key!r}"
        f"{did_you_mean(key, known) or '; known keys: ' + ', '.join(known)}"
        for key in table
        if key not in known
    ]
    problems += [
        f"{FILE}: {TABLE}.{key}: expected a string"
        for key in known
        if key in table and not (isinstance(table[key], str) and table[key])
    ]
    if problems:
        raise ConfigError("\n".join(problems), problems=problems)
    return {
        key: value if key == "package" else _relative_to(here, path.parent / value)
        for key, value in table.items()
    }


def _relative_to(here: Path, path: Path) -> Path:
    try:
        return Path(os.path.relpath(path, here))
    except ValueError:  # on another Windows drive
        return path
