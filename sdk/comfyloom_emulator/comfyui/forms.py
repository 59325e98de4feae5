"""Multipart forms of the upload routes."""

from collections.abc import Mapping
from typing import TypeAlias

import attrs
from starlette.requests import Request


@attrs.frozen
class FormFile:
    """A form part with a file name, which may be empty."""

    name: str
    data: bytes


Form: TypeAlias = Mapping[str, "str | FormFile"]


async def read_form(request: Request) -> Form:
    """Return the fields of a form; if a name occurs several times, the last one counts.

    Raises:
        ValueError: The multipart body is truncated.
    """
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("multipart/"):
        _check_is_complete(await request.body(), kind)
    fields: dict[str, str | FormFile] = {}
    async with request.form() as form:
        for key, value in form.multi_items():
            if isinstance(value, str):
                fields[key] = value
            else:
                fields[key] = FormFile(value.filename or "", await value.read())
    return fields


def _check_is_complete(body: bytes, kind: str) -> None:
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    if not boundary or b"--" + boundary + b"--" not in body:
        raise ValueError("the multipart body is truncated")


def text_field(form: Form, name: str, default: str) -> str:
    """Return a text field; `default` if it is missing or a file."""
    value = form.get(name, default)
    return value if isinstance(value, str) else default
