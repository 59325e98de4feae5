"""Retries, the facts of an error, and which headers are sent to which server."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import requests
import responses

from comfyloom._http.access import Access, bearer
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.transport import Transport, text_of
from comfyloom.errors import TransportError
from support import FakeClock

URL = "http://127.0.0.1:1"


@pytest.fixture
def transport(clock: FakeClock) -> Transport:
    return Transport(URL, "ComfyUI", clock=clock, backoff=Backoff(random=random.Random(0)))


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://127.0.0.1:1/comfyui", "ws://127.0.0.1:1/comfyui/ws?clientId=a+b"),
        ("https://h.invalid", "wss://h.invalid/ws?clientId=a+b"),
    ],
)
def test_the_handshake_has_the_url_and_headers_of_a_request(base: str, url: str) -> None:
    access = Access(headers={"X-Key": "abc", "Host": "other.invalid"})
    handshake = Transport(base, "ComfyUI", access).handshake("/ws", clientId="a b")
    assert handshake.url == url
    names = {line.partition(":")[0] for line in handshake.headers}
    assert names == {"User-Agent", "X-Key"}
    assert handshake.options["host"] == "other.invalid"


@responses.activate
@pytest.mark.parametrize("charset", ['"a\0b"', "no-such", "utf-8", "idna", "undefined"])
def test_a_text_is_read_whatever_its_charset(transport: Transport, charset: str) -> None:
    kind = f"text/html; charset={charset}"
    responses.get(f"{URL}/queue", body=b"caf\xc3\xa9", content_type=kind)
    assert text_of(transport.send("GET", "/queue"), 4).startswith("caf")


@responses.activate
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reading_is_retried_after_a_transient_error(transport: Transport, status: int) -> None:
    responses.get(f"{URL}/queue", status=status)
    responses.get(f"{URL}/queue", status=status)
    responses.get(f"{URL}/queue", json={})
    assert transport.send("GET", "/queue").status_code == 200
    assert len(responses.calls) == 3


@responses.activate
def test_the_last_answer_is_returned_after_the_last_attempt(
    transport: Transport, clock: FakeClock
) -> None:
    responses.get(f"{URL}/queue", status=503)
    assert transport.send("GET", "/queue").status_code == 503
    assert len(responses.calls) == 5
    assert len(clock.slept) == 4


@responses.activate
@pytest.mark.parametrize("status", [500, 503])
def test_a_post_is_not_retried(transport: Transport, status: int) -> None:
    responses.post(f"{URL}/servers", status=status)
    assert transport.send("POST", "/servers").status_code == status
    assert len(responses.calls) == 1


@responses.activate
def test_a_post_is_retried_after_a_rate_limit(transport: Transport, clock: FakeClock) -> None:
    responses.post(f"{URL}/servers", status=429, headers={"Retry-After": "7"})
    responses.post(f"{URL}/servers", status=201)
    assert transport.send("POST", "/servers").status_code == 201
    assert clock.slept == [7.0]


@responses.activate
def test_an_idempotent_post_is_retried(transport: Transport) -> None:
    responses.post(f"{URL}/interrupt", body=requests.ConnectionError())
    responses.post(f"{URL}/interrupt")
    assert transport.send("POST", "/interrupt", repeatable=True).status_code == 200


@responses.activate
@pytest.mark.parametrize(("said", "waited"), [("600", 60.0), ("soon", None), ("-5", None)])
def test_retry_after_is_bounded(
    transport: Transport, clock: FakeClock, said: str, waited: float | None
) -> None:
    responses.get(f"{URL}/x", status=429, headers={"Retry-After": said})
    responses.get(f"{URL}/x")
    transport.send("GET", "/x")
    assert waited is None or clock.slept == [waited]


@responses.activate
def test_an_unanswered_request_keeps_every_error(transport: Transport) -> None:
    responses.get(f"{URL}/x", body=requests.ReadTimeout("first"))
    responses.get(f"{URL}/x", body=requests.ConnectionError(ConnectionResetError(104, "reset")))
    with pytest.raises(TransportError) as caught:
        transport.send("GET", "/x", backoff=Backoff(attempts=2))
    assert len(caught.value.errors) == 2
    assert caught.value.errors[1] == "no answer in time"
    assert caught.value.sent
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_refused_connection_was_never_sent(transport: Transport) -> None:
    with pytest.raises(TransportError, match="Connection refused") as caught:
        transport.send("POST", "/x")
    assert not caught.value.sent
    transport.close()


def test_a_name_that_does_not_resolve_is_not_shown(clock: FakeClock) -> None:
    transport = Transport("http://secret-comfyui.invalid", "ComfyUI", clock=clock)
    with pytest.raises(TransportError) as caught:
        transport.send("GET", "/x", backoff=NO_RETRY)
    assert "secret-comfyui" not in str(caught.value)
    assert not caught.value.sent
    transport.close()


@responses.activate
def test_redirects_are_not_followed(transport: Transport) -> None:
    responses.get(f"{URL}/x", status=302, headers={"Location": f"{URL}/y"})
    assert transport.send("GET", "/x").status_code == 302


@responses.activate
def test_only_our_own_token_is_sent(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    responses.get(f"{URL}/x")
    Transport(URL, "ComfyUI", clock=clock).send("GET", "/x")
    assert "Authorization" not in responses.calls[0].request.headers
    assert "Origin" not in responses.calls[0].request.headers
    access = Access(authorization=bearer("t0ken"))
    Transport(URL, "RunComfy", access, clock=clock).send("GET", "/x")
    assert responses.calls[1].request.headers["Authorization"] == "Bearer t0ken"
    assert "t0ken" not in repr(Transport(URL, "RunComfy", access))
    assert "t0ken" not in repr(access)


def test_only_a_certificate_error_proves_that_nothing_was_sent() -> None:
    import ssl

    from comfyloom._http.failures import reached_the_server

    certificate = requests.exceptions.SSLError(ssl.SSLCertVerificationError("unknown ca"))
    assert not reached_the_server(certificate)
    record = requests.exceptions.SSLError(ssl.SSLError("bad record mac"))
    assert reached_the_server(record)
