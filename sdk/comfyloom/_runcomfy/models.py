"""What the Server API answers, decoded leniently: unknown fields and states are kept."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from comfyloom._core.json import is_mapping, items, mapping
from comfyloom.errors import ApiError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

_ENDED: Final = frozenset({"deleting", "deleted", "stopping", "stopped", "error", "failed"})


@attrs.frozen(kw_only=True)
class Server:
    """A machine, as the Server API describes it.

    Attributes:
        server_id: Its id.
        server_type: Its kind, for example `medium`.
        current_status: The platform's word for its state; an open list.
        main_service_url: Where its ComfyUI answers, None until it is ready. A secret.
        estimated_duration: Seconds after `service_ready_at` at which it ends by itself.
        service_ready_at: When it became ready and its billing began.
        estimated_stopping_at: When it will end by itself.
    """

    server_id: str
    server_type: str = ""
    current_status: str = ""
    main_service_url: str | None = attrs.field(default=None, repr=False)
    estimated_duration: float | None = None
    service_ready_at: datetime | None = None
    estimated_stopping_at: datetime | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the platform calls it ready; its ComfyUI may still need a moment."""
        return self.current_status.lower() == "ready"

    @property
    def has_ended(self) -> bool:
        """Whether it has ended or is about to, well or not."""
        return self.current_status.lower() in _ENDED


@attrs.frozen(kw_only=True)
class CloudWorkflow:
    """A workflow that the account has saved in the cloud."""

    workflow_name: str = ""
    version_id: str = ""
    workflow_id: str = ""


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter()
    converter.register_structure_hook(datetime, _to_time)
    converter.register_structure_hook(str, _to_text)
    return converter


def _to_time(value: object, _: type) -> datetime:
    """Return a time; one without a zone is UTC, as all of the Server API's are."""
    time = datetime.fromisoformat(str(value))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _to_text(value: object, _: type) -> str:
    """Return a text; only what JSON writes as a plain value is one."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"a text is expected, not {type(value).__name__}")


def decode(kind: type[T], raw: object, request: str) -> T:
    """Return the object that JSON describes.

    A field that is not understood is as if it were not there: whatever else the platform tells of
    a machine, it must not be lost over a date.

    Raises:
        ApiError: A field without which it is none is missing or wrong; the message names it.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(_understood(kind, raw), kind)
    except (BaseValidationError, TypeError, ValueError) as error:
        lines = "; ".join(transform_error(error))
    raise ApiError(f"RunComfy: {request}: the answer is not understood: {lines}", request=request)


def _understood(kind: type[Any], raw: object) -> object:
    """Return the fields of a JSON object that can be read; required ones are kept as they are."""
    if not is_mapping(raw):
        return raw
    given, fields = mapping(raw), attrs.fields_dict(attrs.resolve_types(kind))
    required = {name for name, field in fields.items() if field.default is attrs.NOTHING}
    return {
        name: given[name]
        for name, field in fields.items()
        if name in given and (name in required or _fits(given[name], field.type))
    }


def _fits(value: object, kind: Any) -> bool:
    if value is None:  # a null says no more than a missing field
        return False
    try:
        _converter().structure(value, kind)
    except (TypeError, ValueError):
        return False
    return True


def rows(raw: object, key: str) -> list[object]:
    """Return the rows of a list, which comes bare or as `{key: [...]}`.

    Raises:
        ApiError: It is neither: an answer that is not understood must not look like "none".
    """
    found = mapping(raw).get(key) if is_mapping(raw) else raw
    if not isinstance(found, list):
        raise ApiError(f"RunComfy: GET {key}: the answer is no list", request=f"GET {key}")
    return items(cast("object", found))
