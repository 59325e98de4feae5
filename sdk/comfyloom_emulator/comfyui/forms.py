"""Multipart forms, as the upload routes read them."""

from collections.abc import Mapping
from typing import TypeAlias

import attrs
from starlette.requests import Request


@attrs.frozen
class FormFile:
    """A part with a file name, which may be empty."""

    name: str
    data: bytes


Form: TypeAlias = Mapping[str, "str | FormFile"]


async def read_form(request: Request) -> Form:
    """The fields of a form; of several with one name, the last.

    Raises:
        ValueError: The multipart body is cut.
    """
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("multipart/"):
        _check_end(await request.body(), kind)
    fields: dict[str, str | FormFile] = {}
    async with request.form() as form:
        for key, value in form.multi_items():
            if isinstance(value, str):
                fields[key] = value
            else:
                fields[key] = FormFile(value.filename or "", await value.read())
    return fields


def _check_end(body: bytes, kind: str) -> None:
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    if not boundary or b"--" + boundary + b"--" not in body:
        raise ValueError("the multipart body is cut")


def text_field(form: Form, name: str, default: str) -> str:
    """A text field."""
    value = form.get(name, default)
    return value if isinstance(value, str) else default
