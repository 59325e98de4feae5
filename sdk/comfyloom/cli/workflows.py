"""Workflow classes that installed packages offer, found by entry points."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from comfyloom.errors import ConfigError
from comfyloom.workflow import Workflow

GROUP = "comfyloom.workflows"


def workflow_classes() -> dict[str, type[Workflow[Any]]]:
    """Return all workflow classes by the name of their command.

    Raises:
        ConfigError: Two packages offer the same name, or one cannot be imported.
    """
    found: dict[str, type[Workflow[Any]]] = {}
    for cls in _all_classes():
        command = cls.spec_.command
        if found.setdefault(command, cls) is not cls:
            rivals = f"{found[command].__module__} and {cls.__module__}"
            raise ConfigError(f"two workflows are called {command}: in {rivals}")
    return found


def _all_classes() -> Iterator[type[Workflow[Any]]]:
    for package in sorted({point.value for point in entry_points(group=GROUP)}):
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(f"the workflows of {package} cannot be imported: {error}") from None
        for name in getattr(module, "__all__", ()):
            member = getattr(module, name)
            if inspect.isclass(member) and issubclass(member, Workflow):
                yield member


def only_workflow(command: str | None) -> type[Workflow[Any]] | None:
    """Return the workflow of that command; without a name the only one, None if it is not one.

    Raises:
        ConfigError: There is none of that name.
    """
    known = workflow_classes()
    if command is None:
        return next(iter(known.values())) if len(known) == 1 else None
    if command in known:
        return known[command]
    text = f"no workflow {command!r}; there are: {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(text, problems=[text])
