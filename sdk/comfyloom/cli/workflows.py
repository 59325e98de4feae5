"""Workflow classes of installed packages, found by entry points."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from comfyloom._core.redact import log
from comfyloom._runcomfy.client import ServerApi
from comfyloom._workflow.workflow import Workflow
from comfyloom.errors import ConfigError
from comfyloom.settings import Settings

GROUP = "comfyloom.workflows"


def workflow_classes() -> dict[str, type[Workflow[Any]]]:
    """Return all workflow classes by command name.

    A package that cannot be imported is skipped with a warning.

    Raises:
        ConfigError: Two workflow classes have the same command name.
    """
    found: dict[str, type[Workflow[Any]]] = {}
    for cls in _all_classes():
        command = cls.__workflow__.command
        if found.setdefault(command, cls) is not cls:
            rivals = f"{found[command].__module__} and {cls.__module__}"
            raise ConfigError(f"two workflows are named {command}: in {rivals}")
    return found


def _all_classes() -> Iterator[type[Workflow[Any]]]:
    points = {point.value: point for point in entry_points(group=GROUP)}
    for package, point in sorted(points.items()):
        try:
            module = importlib.import_module(package)
            members = [getattr(module, name) for name in getattr(module, "__all__", ())]
        except Exception as error:  # noqa: BLE001 - importing another package can raise anything
            owner = point.dist.name if point.dist else "an installed package"
            text = "the workflows of %s cannot be imported (entry point %s): %s"
            log.warning(text, owner, package, error)
            continue
        for member in members:
            if inspect.isclass(member) and issubclass(member, Workflow):
                yield member


def find_workflow(
    command: str | None, settings: Settings, *, is_needed: bool
) -> type[Workflow[Any]] | None:
    """Return the workflow with a command name, else the only one, else the account's.

    Args:
        command: The command name, None if the user gave none.
        settings: The account; of several installed workflows, the one saved there is chosen.
        is_needed: Whether the caller needs a workflow; if not, the account is not asked.

    Raises:
        ConfigError: No workflow has that name, or several could be meant.
        ComfyloomError: The account's workflows cannot be listed.
    """
    found = named_or_only_workflow(command)
    if found is not None or not is_needed:
        return found
    version = settings.workflow_version_id
    with ServerApi.of(settings) as api:
        saved = [entry for entry in api.list_workflows() if version in (None, entry.version_id)]
    names = {entry.workflow_name for entry in saved}
    known = workflow_classes()
    candidates = [cls for cls in known.values() if cls.__workflow__.name in names]
    if len(candidates) == 1:
        return candidates[0]
    text = f"which workflow? Name one of {', '.join(sorted(known)) or '(none is installed)'}"
    raise ConfigError(text, problems=[text])


def named_or_only_workflow(command: str | None) -> type[Workflow[Any]] | None:
    """Return the workflow with a command name; without a name, the only one that is installed.

    Returns:
        The workflow; without a name None unless exactly one is installed.

    Raises:
        ConfigError: No workflow has that name.
    """
    known = workflow_classes()
    if command is None:
        return next(iter(known.values())) if len(known) == 1 else None
    if command in known:
        return known[command]
    text = f"no workflow {command!r}; installed: {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(text, problems=[text])
