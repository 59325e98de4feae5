"""The options of an emulator, validated."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import ge, in_, instance_of, optional

from comfyloom_emulator.clock import TimeMode
from comfyloom_emulator.nodes.spec import Node

SERVER_TYPES = ("medium", "large", "extra-large", "2x-large", "2xl-turbo")


def _seconds(_options: object, attribute: "attrs.Attribute[float]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"{attribute.name} must be a number of seconds, 0 or more")


def _rate_limit(_options: object, _attribute: object, value: tuple[float, int] | None) -> None:
    if value is not None and (value[0] <= 0 or value[1] < 1):
        raise ValueError("rate_limit must be requests per second above 0 and a burst of 1 or more")


def _not_empty(
    _options: object, attribute: "attrs.Attribute[tuple[str, ...]]", value: object
) -> None:
    if not value:
        raise ValueError(f"{attribute.name} must not be empty")


def _version(_options: object, _attribute: object, value: object) -> None:
    if not isinstance(value, str) or re.fullmatch(r"\d+(\.\d+)+", value) is None:
        raise ValueError(
            f"comfyui_version must be numbers with dots, such as 0.3.64, not {value!r}"
        )


def _new_uuid() -> str:
    return str(uuid.uuid4())


@attrs.frozen(kw_only=True)
class AccountWorkflow:
    """A workflow of the account, as the Server API lists it."""

    workflow_id: str = attrs.field(factory=_new_uuid)
    workflow_name: str
    version_id: str


@attrs.frozen(kw_only=True)
class Options:
    """The options of an `Emulator`, which documents them."""

    time: TimeMode = attrs.field(
        default="immediate", validator=in_(("immediate", "manual", "real"))
    )
    startup_s: float = attrs.field(default=150.0, validator=_seconds)
    run_s: float = attrs.field(default=200.0, validator=_seconds)
    port: int = attrs.field(default=0, validator=ge(0))
    rate_limit: tuple[float, int] | None = attrs.field(default=(1.0, 10), validator=_rate_limit)
    retry_after_s: int | None = attrs.field(default=None, validator=optional(ge(0)))
    server_types: tuple[str, ...] = attrs.field(default=SERVER_TYPES, validator=_not_empty)
    comfyui_delay_s: float = attrs.field(default=0.0, validator=_seconds)
    expire_leases: bool = True
    date_skew_s: float = attrs.field(default=0.0, validator=instance_of((int, float)))
    comfyui_version: str = attrs.field(default="0.3.64", validator=_version)
    history_delay_s: float = attrs.field(default=0.001, validator=_seconds)
    previews: bool = True
    monitor_events: bool = False
    node_seconds: Mapping[str, float] = attrs.field(factory=dict[str, float])
    object_info: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    nodes: Mapping[str, Node] = attrs.field(factory=dict[str, Node])
    token: str = attrs.field(factory=_new_uuid)
    user_id: str = attrs.field(factory=_new_uuid)
    workflow_version_id: str = attrs.field(factory=_new_uuid)
    workflow_names: tuple[str, ...] = attrs.field(
        default=("generate_flux_mesh",), validator=_not_empty
    )

    @property
    def describes_jobs(self) -> bool:
        """Whether the emulated ComfyUI answers GET /api/jobs, as 0.8.0 does."""
        return self._version >= (0, 4)

    @property
    def is_of_autumn_2026(self) -> bool:
        """Whether it also cancels jobs, and does all else that is new in autumn 2026."""
        return self._version >= (0, 9)

    @property
    def _version(self) -> tuple[int, ...]:
        parts = [int(part) for part in self.comfyui_version.split(".")[:2] if part.isdecimal()]
        return (*parts, 0, 0)[:2]

    def workflows(self) -> list[AccountWorkflow]:
        """Return the account's workflows; the first has `workflow_version_id`."""
        first, *others = self.workflow_names
        return [
            AccountWorkflow(workflow_name=first, version_id=self.workflow_version_id),
            *(AccountWorkflow(workflow_name=name, version_id=_new_uuid()) for name in others),
        ]
