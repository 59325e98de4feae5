"""A form with one file, as a streamed request body."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._workflow.files import InputFile


class UploadCancelled(Exception):
    """The scope of the upload ended it, with the error `cause`."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


class Multipart:
    """A body of `multipart/form-data` (RFC 7578) of known length; its file is streamed.

    Args:
        field: The field of the file.
        values: Further fields.
    """

    def __init__(
        self, field: str, file: InputFile, values: Mapping[str, str], scope: CancelScope
    ) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        disposition = "Content-Disposition: form-data; name="
        parts = [
            f'--{boundary}\r\n{disposition}"{name}"\r\n\r\n{value}\r\n'
            for name, value in values.items()
        ]
        head = f'{disposition}"{field}"; filename="{file.file_name}"\r\n'
        kind = "Content-Type: application/octet-stream\r\n\r\n"
        self._head = f"{''.join(parts)}--{boundary}\r\n{head}{kind}".encode()
        self._file = file
        self._scope = scope
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._file.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        for chunk in self._file.chunks():
            try:
                self._scope.checkpoint()
            except Exception as error:  # noqa: BLE001 - the sender raises it again
                # Our timeouts are TimeoutErrors, which the HTTP library would take for its own.
                raise UploadCancelled(error) from None
            yield chunk
        yield self._tail
