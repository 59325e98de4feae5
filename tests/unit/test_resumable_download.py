"""A download that breaks off: when it is continued, when it begins anew, and when it is refused."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests
from urllib3 import HTTPResponse

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.history import FileReference
from comfyloom._comfyui.resumable_download import ResumableDownload
from comfyloom._core.timeouts import Timeouts
from comfyloom.errors import ApiError, NotFound, TransportError

CONTENT = b"0123456789"
FILE = FileReference(filename="mesh.bin", subfolder="", type="output")


@attrs.define
class FakeServer:
    """Gives each answer in turn, and keeps the offsets that were asked for."""

    answers: list[requests.Response | Exception]
    asked: list[int] = attrs.field(factory=list)
    timeouts: Timeouts = attrs.field(factory=Timeouts)

    @contextmanager
    def view(self, _: FileReference, *, first: int, **__: Any) -> Generator[requests.Response]:
        self.asked.append(first)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer


def answer(content: bytes, status: int = 200, **headers: str) -> requests.Response:
    found = requests.Response()
    found.status_code = status
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found.headers.update(named)
    # The library itself would raise for a short body, which `ComfyUI.view` makes a TransportError.
    coding = {key: value for key, value in named.items() if key == "Content-Encoding"}
    found.raw = HTTPResponse(io.BytesIO(content), headers=coding, preload_content=False)
    return found


def whole(content: bytes = CONTENT, etag: str = '"1"', length: int = 10) -> requests.Response:
    return answer(content, ETag=etag, Content_Length=str(length))


def rest(first: int, etag: str = '"1"', total: int = 10) -> requests.Response:
    span = f"bytes {first}-{total - 1}/{total}"
    return answer(CONTENT[first:], 206, ETag=etag, Content_Range=span)


@pytest.fixture
def part(tmp_path: Path) -> ResumableDownload:
    return ResumableDownload(tmp_path / "mesh.bin")


def fetch(part: ResumableDownload, *answers: requests.Response | Exception) -> FakeServer:
    """Try once for each answer; all but the last must break off."""
    server = FakeServer(list(answers))
    for _ in answers[:-1]:
        with pytest.raises(TransportError):
            part.fetch(server, FILE, CancelScope())  # type: ignore[arg-type]
    part.fetch(server, FILE, CancelScope())  # type: ignore[arg-type]
    return server


def test_an_unbroken_download(part: ResumableDownload) -> None:
    fetch(part, whole())
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.total) == (10, 10)


def test_a_broken_one_continues_where_it_broke(part: ResumableDownload) -> None:
    server = fetch(part, whole(CONTENT[:4]), rest(4))
    assert server.asked == [0, 4]
    assert part.path.read_bytes() == CONTENT


def test_a_broken_one_continues_twice(part: ResumableDownload) -> None:
    broken = answer(CONTENT[4:6], 206, ETag='"1"', Content_Range="bytes 4-9/10")
    server = fetch(part, whole(CONTENT[:4]), broken, rest(6))
    assert server.asked == [0, 4, 6]
    assert part.path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_etag_it_begins_anew(part: ResumableDownload, etag: str) -> None:
    server = fetch(part, whole(CONTENT[:4], etag), whole())
    assert server.asked == [0, 0]
    assert part.path.read_bytes() == CONTENT


def test_a_server_that_ignores_the_range_sends_all(part: ResumableDownload) -> None:
    server = fetch(part, whole(CONTENT[:4]), whole())
    assert server.asked == [0, 4]
    assert part.path.read_bytes() == CONTENT


def test_a_shorter_file_replaces_a_longer_beginning(part: ResumableDownload) -> None:
    fetch(part, whole(CONTENT[:8]), whole(b"abc", '"2"', 3))
    assert part.path.read_bytes() == b"abc"


@pytest.mark.parametrize(
    "second",
    [
        rest(4, '"2"'),  # another file
        rest(4, total=11),  # another length
        answer(CONTENT[5:], 206, ETag='"1"', Content_Range="bytes 5-9/10"),
        answer(CONTENT[4:], 206, ETag='"1"', Content_Range="bytes 4-9/*"),
        answer(CONTENT[4:], 206, ETag='"1"'),
        ApiError(status=416),
    ],
)
def test_another_file_or_range_begins_anew(
    part: ResumableDownload, second: requests.Response | Exception
) -> None:
    server = fetch(part, whole(CONTENT[:4]), second, whole())
    assert server.asked == [0, 4, 0]
    assert part.path.read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for_is_refused(part: ResumableDownload) -> None:
    fetch(part, rest(0), whole())
    assert part.path.read_bytes() == CONTENT


def test_more_than_announced_is_not_believed(part: ResumableDownload) -> None:
    server = fetch(part, whole(CONTENT, length=4), whole())
    assert server.asked == [0, 0]


def test_a_page_of_a_gateway_is_not_the_file(part: ResumableDownload) -> None:
    page = answer(b"<html>", Content_Type="Text/HTML; charset=utf-8", Content_Length="6")
    server = FakeServer([page])
    with pytest.raises(TransportError, match="a gateway's page instead of the file"):
        part.fetch(server, FILE, CancelScope())  # type: ignore[arg-type]
    assert not part.path.exists()


def test_a_compressed_answer_is_unpacked_and_its_length_ignored(part: ResumableDownload) -> None:
    import gzip

    packed = gzip.compress(CONTENT)
    headers = {"Content_Encoding": "gzip", "Content_Length": str(len(packed)), "ETag": '"1"'}
    fetch(part, answer(packed, **headers))
    assert part.path.read_bytes() == CONTENT
    assert (part.total, part.etag) == (None, "")


def test_without_a_length_the_file_itself_must_be_complete(tmp_path: Path) -> None:
    part = ResumableDownload(tmp_path / "image.png")
    server = FakeServer([answer(b"\x89PNG\r\n\x1a\n then nothing")])
    with pytest.raises(TransportError, match=r"image\.png"):
        part.fetch(server, FILE, CancelScope())  # type: ignore[arg-type]
    assert part.size == 0


@pytest.mark.parametrize("error", [NotFound(status=404), ApiError(status=403)])
def test_a_refusal_is_raised(part: ResumableDownload, error: ApiError) -> None:
    with pytest.raises(type(error)):
        part.fetch(FakeServer([error]), FILE, CancelScope())  # type: ignore[arg-type]
