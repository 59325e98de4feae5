"""The responses of the Server API, decoded leniently.

Unknown fields are ignored, unknown states are kept, and a field that cannot be read counts as
absent.
"""

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
        server_type: Its machine type, for example `medium`.
        current_status: The platform's name for its state; the list of states is open.
        main_service_url: The URL of its ComfyUI, None until it is ready. A secret.
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
        """Whether the platform reports it as ready; its ComfyUI may still need a moment."""
        return self.current_status.lower() == "ready"

    @property
    def has_ended(self) -> bool:
        """Whether it has ended or is about to end, with or without an error."""
        return self.current_status.lower() in _ENDED


@attrs.frozen(kw_only=True)
class CloudWorkflow:
    """A workflow that is saved in the account."""

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
    """Return a time; without a zone it is UTC, like all times of the Server API."""
    time = datetime.fromisoformat(str(value))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _to_text(value: object, _: type) -> str:
    """Return a JSON string or number as text.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"expected a string, got {type(value).__name__}")


def decode(kind: type[T], raw: object, request: str) -> T:
    """Return the object that JSON describes.

    An optional field that cannot be read counts as absent: a machine must not be lost because of
    a malformed date.

    Args:
        kind: The attrs class of the object.
        raw: The decoded JSON.
        request: What was requested, for messages.

    Raises:
        ApiError: A required field is missing or wrong; the message names it.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(_readable_fields(kind, raw), kind)
    except (BaseValidationError, TypeError, ValueError) as error:
        lines = "; ".join(transform_error(error))
    raise ApiError(f"RunComfy: {request}: unexpected response: {lines}", request=request)


def _readable_fields(kind: type[Any], raw: object) -> object:
    """Return the fields of a JSON object that can be read; required ones are kept unchecked."""
    if not is_mapping(raw):
        return raw
    given, fields = mapping(raw), attrs.fields_dict(attrs.resolve_types(kind))
    required = {name for name, field in fields.items() if field.default is attrs.NOTHING}
    return {
        name: given[name]
        for name, field in fields.items()
        if name in given and (name in required or _is_readable(given[name], field.type))
    }


def _is_readable(value: object, kind: Any) -> bool:
    if value is None:  # null means the same as a missing field
        return False
    try:
        _converter().structure(value, kind)
    except (TypeError, ValueError):
        return False
    return True


def rows(raw: object, key: str) -> list[object]:
    """Return the rows of a list, which comes bare or as `{key: [...]}`.

    Raises:
        ApiError: It is neither: an unexpected response must not look like an empty list.
    """
    found = mapping(raw).get(key) if is_mapping(raw) else raw
    if not isinstance(found, list):
        raise ApiError(f"RunComfy: GET {key}: the response is not a list", request=f"GET {key}")
    return items(cast("object", found))
