"""Settings as keyword arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict

from comfyloom.settings.declaration import Auth, ClientCert, Headers, Plan, Prices, Verify


class Given(TypedDict, total=False):
    """Settings as keyword arguments; None counts as not given."""

    api_token: str | None
    user_id: str | None
    api_base_url: str | None
    web_base_url: str | None
    workflow_version_id: str | None
    server_type: str | Sequence[str] | None
    plan: Plan | None
    prices: Prices | None
    max_machines: int | None
    max_duration_s: float | None
    idle_timeout_s: float | None
    ready_grace_s: float | None
    dev_idle_timeout_s: float | None
    dev_max_duration_s: float | None
    state_file: str | os.PathLike[str] | None
    ledger: str | None
    auth: Auth | None
    headers: Headers | None
    verify: Verify | None
    client_cert: ClientCert | None
    api_key_comfy_org: str | None
    keep_all: bool | None
