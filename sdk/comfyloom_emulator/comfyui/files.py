"""HTTP responses with a file: validators, conditional requests and ranges."""

import mimetypes
import re
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES = {".glb": "model/gltf-binary", ".webp": "image/webp"}
_UNSAFE = frozenset({"text/html", "text/html-sandboxed", "application/xhtml+xml"})
_SCRIPTS = frozenset({"text/javascript", "application/javascript", "text/css"})


def content_type(name: str) -> str:
    """Return the content type for a file name, but none that a browser would execute."""
    known = _TYPES.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0]
    if known is None or known in _UNSAFE | _SCRIPTS:
        return "application/octet-stream"
    return known


def disposition(name: str) -> dict[str, str]:
    """Return the header with the file's name."""
    quoted = name.encode().decode("latin-1")
    return {"Content-Disposition": f'filename="{quoted}"'}


def file_reply(path: Path, request_headers: Headers) -> Response:
    """Return the response with the file, or the requested part of it."""
    stat = path.stat()
    headers = {**disposition(path.name), "Content-Type": content_type(path.name)}
    validators = {
        "ETag": f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"',
        "Last-Modified": formatdate(int(stat.st_mtime), usegmt=True),
    }
    if _is_not_modified(request_headers, validators["ETag"], stat.st_mtime):
        return Response(status_code=304, headers={**headers, **validators})
    wanted = request_headers.get("Range")
    if wanted is None or _is_range_outdated(request_headers, stat.st_mtime):
        body = path.read_bytes()
        return Response(body, 200, {**headers, **validators, "Accept-Ranges": "bytes"})
    return _range_reply(path, wanted, headers, validators)


def _range_reply(
    path: Path, wanted: str, headers: dict[str, str], validators: dict[str, str]
) -> Response:
    body = path.read_bytes()
    span = _parse_range(wanted, len(body))
    if span is None:
        return Response(
            status_code=416, headers={**headers, "Content-Range": f"bytes */{len(body)}"}
        )
    first, end = span
    content_range = f"bytes {first}-{end - 1}/{len(body)}"
    ranges = {"Accept-Ranges": "bytes", "Content-Range": content_range}
    return Response(body[first:end], 206, {**headers, **validators, **ranges})


def _parse_range(wanted: str, size: int) -> tuple[int, int] | None:
    match = _RANGE.fullmatch(wanted)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return (max(0, size - int(match[2])), size) if int(match[2]) else None
    first = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (first, end) if first < end else None


def _is_not_modified(headers: Headers, etag: str, modified: float) -> bool:
    known = headers.get("If-None-Match")
    if known is not None:
        return known.strip() == "*" or etag in {tag.strip() for tag in known.split(",")}
    since = _date(headers.get("If-Modified-Since"))
    return since is not None and int(modified) <= since


def _is_range_outdated(headers: Headers, modified: float) -> bool:
    # As in the real server, only a date counts here; with an ETag the range is served.
    since = _date(headers.get("If-Range"))
    return since is not None and int(modified) > since


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
