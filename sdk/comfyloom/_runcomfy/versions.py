"""Finding the saved workflow of an account that a workflow file belongs to."""

from __future__ import annotations

from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import ConfigError


def find_version(api: ServerApi, workflow: str) -> str:
    """Return the version id of the account's workflow with that name.

    Raises:
        ConfigError: The account has no workflow with that name, or several.
    """
    found = api.list_workflows()
    ids = [entry.version_id for entry in found if entry.workflow_name == workflow]
    if len(ids) == 1 and ids[0]:
        return ids[0]
    names = ", ".join(sorted({entry.workflow_name for entry in found})) or "none"
    count = "several workflows" if ids else "no workflow"
    raise ConfigError(
        f"the account has {count} named {workflow} (it has: {names}); "
        f"set RUNCOMFY_WORKFLOW_VERSION_ID"
    )
