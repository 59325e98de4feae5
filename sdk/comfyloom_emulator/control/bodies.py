"""Request bodies of the Server API, and what is wrong with them."""

import json
from collections.abc import Sequence
from typing import cast

import attrs


@attrs.frozen
class Problem:
    """One thing that is wrong with a body."""

    field: str
    message: str
    kind: str

    def as_json(self) -> dict[str, object]:
        """The entry of a 422 answer's `detail`."""
        loc = ["body", self.field] if self.field else ["body"]
        return {"loc": loc, "msg": self.message, "type": self.kind}


class BadBody(Exception):
    """A body that is refused, with everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)


@attrs.frozen
class Launch:
    """The body of a launch."""

    workflow_version_id: str
    server_type: str
    estimated_duration: int


def parse_launch(body: bytes, server_types: Sequence[str]) -> Launch:
    """The launch that a body asks for.

    Raises:
        BadBody: It is no JSON object, or fields are missing or wrong.
    """
    data = _parse_object(body)
    problems: list[Problem] = []
    version = _text(data, "workflow_version_id", problems)
    server_type = _text(data, "server_type", problems)
    if server_type and server_type not in server_types:
        allowed = ", ".join(f"'{name}'" for name in server_types)
        problems.append(Problem("server_type", f"Input should be one of {allowed}", "enum"))
    duration = _positive(data, "estimated_duration", problems)
    if problems:
        raise BadBody(problems)
    return Launch(version, server_type, duration)


def parse_duration(body: bytes) -> int:
    """The duration in seconds that a body asks for.

    Raises:
        BadBody: It is no JSON object, or the field is missing or wrong.
    """
    problems: list[Problem] = []
    duration = _positive(_parse_object(body), "update_estimated_duration", problems)
    if problems:
        raise BadBody(problems)
    return duration


def _parse_object(body: bytes) -> dict[str, object]:
    try:
        data: object = json.loads(body)
    except ValueError as error:
        raise BadBody([Problem("", f"JSON decode error: {error}", "json_invalid")]) from error
    if not isinstance(data, dict):
        raise BadBody([Problem("", "Input should be a valid dictionary", "dict_type")])
    return cast("dict[str, object]", data)


def _text(data: dict[str, object], field: str, problems: list[Problem]) -> str:
    value = data.get(field)
    if field not in data:
        problems.append(Problem(field, "Field required", "missing"))
    elif not isinstance(value, str):
        problems.append(Problem(field, "Input should be a valid string", "string_type"))
    return value if isinstance(value, str) else ""


def _positive(data: dict[str, object], field: str, problems: list[Problem]) -> int:
    value = data.get(field)
    if field not in data:
        problems.append(Problem(field, "Field required", "missing"))
    elif isinstance(value, bool) or not isinstance(value, int):
        problems.append(Problem(field, "Input should be a valid integer", "int_type"))
    elif value <= 0:
        problems.append(Problem(field, "Input should be greater than 0", "greater_than"))
    else:
        return value
    return 0
