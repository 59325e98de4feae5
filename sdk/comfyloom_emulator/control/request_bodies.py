"""Request bodies of the Server API, and their validation errors."""

import json
from collections.abc import Sequence
from typing import cast

import attrs


@attrs.frozen
class FieldError:
    """One error in a request body."""

    field: str
    message: str
    kind: str

    def as_json(self) -> dict[str, object]:
        """Return the entry for the `detail` of a 422 answer."""
        loc = ["body", self.field] if self.field else ["body"]
        return {"loc": loc, "msg": self.message, "type": self.kind}


class InvalidBody(Exception):
    """A request body was refused; `errors` lists everything wrong with it."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = list(errors)


@attrs.frozen
class LaunchBody:
    """The body of a launch request."""

    workflow_version_id: str
    server_type: str
    estimated_duration: int


def parse_launch(body: bytes, server_types: Sequence[str]) -> LaunchBody:
    """Return the launch that a request body asks for.

    Raises:
        InvalidBody: It is not a JSON object, or fields are missing or wrong.
    """
    data = _parse_object(body)
    errors: list[FieldError] = []
    version = _text(data, "workflow_version_id", errors)
    server_type = _text(data, "server_type", errors)
    if server_type and server_type not in server_types:
        allowed = ", ".join(f"'{name}'" for name in server_types)
        errors.append(FieldError("server_type", f"Input should be one of {allowed}", "enum"))
    duration = _positive(data, "estimated_duration", errors)
    if errors:
        raise InvalidBody(errors)
    return LaunchBody(version, server_type, duration)


def parse_duration(body: bytes) -> int:
    """Return the duration in seconds that a request body asks for.

    Raises:
        InvalidBody: It is not a JSON object, or the field is missing or wrong.
    """
    errors: list[FieldError] = []
    duration = _positive(_parse_object(body), "update_estimated_duration", errors)
    if errors:
        raise InvalidBody(errors)
    return duration


def _parse_object(body: bytes) -> dict[str, object]:
    try:
        data: object = json.loads(body)
    except ValueError as error:
        raise InvalidBody(
            [FieldError("", f"JSON decode error: {error}", "json_invalid")]
        ) from error
    if not isinstance(data, dict):
        raise InvalidBody([FieldError("", "Input should be a valid dictionary", "dict_type")])
    return cast("dict[str, object]", data)


def _text(data: dict[str, object], field: str, errors: list[FieldError]) -> str:
    value = data.get(field)
    if field not in data:
        errors.append(FieldError(field, "Field required", "missing"))
    elif not isinstance(value, str):
        errors.append(FieldError(field, "Input should be a valid string", "string_type"))
    return value if isinstance(value, str) else ""


def _positive(data: dict[str, object], field: str, errors: list[FieldError]) -> int:
    value = data.get(field)
    if field not in data:
        errors.append(FieldError(field, "Field required", "missing"))
    elif isinstance(value, bool) or not isinstance(value, int):
        errors.append(FieldError(field, "Input should be a valid integer", "int_type"))
    elif value <= 0:
        errors.append(FieldError(field, "Input should be greater than 0", "greater_than"))
    else:
        return value
    return 0
