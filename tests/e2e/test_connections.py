"""Logins: every request and the event socket carry the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from comfyloom.errors import ApiError, ConfigError, Unauthorized
from comfyloom.settings import Settings
from gateway import Seen, basic, behind, demanding, run_through, start, url_through
from small_runs import small_workflow
from support import HastyClock

PASSWORD = "pass:wörd"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


# --- logins --------------------------------------------------------------------------------------


def sign(request: Any) -> Any:
    request.headers["X-Signature"] = "signed"
    return request


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("Authorization", basic("jürgen", PASSWORD), {"auth": ("jürgen", PASSWORD)}),
        ("Authorization", basic("me", "pw"), {"auth": "me:pw"}),
        ("Authorization", "Bearer t0ken-of-mine", {"auth": "t0ken-of-mine"}),
        ("Authorization", "Token abc.def", {"auth": "Token abc.def"}),
        ("Authorization", "Custom x", {"headers": {"Authorization": "Custom x"}}),
        ("X-Api-Key", "klänge", {"headers": {"X-Api-Key": "klänge"}}),
        ("Authorization", "Bearer klänge", {"auth": "klänge"}),
        ("Cookie", "session=abc; lang=de", {"headers": {"Cookie": "session=abc; lang=de"}}),
        ("Cookie", "session=abc; bare", {"headers": {"Cookie": "session=abc; bare"}}),
        ("Cookie", "a=b", {"headers": {"Cookie": "a=b", "Host": "studio.example:80"}}),
        ("X-Signature", "signed", {"auth": sign}),
        ("Host", "studio.example", {"headers": {"Host": "studio.example"}}),
    ],
)
def test_requests_and_the_socket_carry_the_login(
    emulator: Emulator, name: str, value: str, options: dict[str, Any]
) -> None:
    # A gateway reads the bytes of a header as Latin-1 or UTF-8; we write UTF-8.
    with behind(emulator.comfyui_url, judge=demanding(name, value)) as gateway:
        run_through(gateway, emulator, **options)


def test_cookies_reach_a_host_without_a_dot(emulator: Emulator) -> None:
    with behind(emulator.comfyui_url, judge=demanding("Cookie", "session=abc")) as gateway:
        url = url_through(gateway, emulator.comfyui_url).replace("127.0.0.1", "localhost")
        run_through(gateway, emulator, url, headers={"Cookie": "session=abc"})


def test_the_environment_gives_the_login_too(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYLOOM_AUTH", f"jürgen:{PASSWORD}")
    monkeypatch.setenv("COMFYLOOM_HEADERS", '{"X-Studio": "north side"}')

    def judge(seen: Seen) -> str | None:
        right = (basic("jürgen", PASSWORD), "north side")
        given = (seen.headers.get("authorization"), seen.headers.get("x-studio"))
        return None if given == right else "403 Forbidden\r\nContent-Length: 0"

    with behind(emulator.comfyui_url, judge=judge) as gateway:
        run_through(gateway, emulator)


def test_a_login_in_the_url_and_a_token_in_its_query(emulator: Emulator) -> None:
    def judge(seen: Seen) -> str | None:
        is_in = seen.query.get("token") == "s3cret-token" and seen.headers.get(
            "authorization"
        ) == basic("me@home", "p w")
        return None if is_in else "401 Unauthorized\r\nContent-Length: 0"

    with behind(emulator.comfyui_url, judge=judge) as gateway:
        url = url_through(gateway, emulator.comfyui_url).replace("://", "://me%40home:p%20w@")
        run_through(gateway, emulator, f"{url}/?token=s3cret-token#workflow")


def test_cookies_that_the_server_sets_reach_the_socket(emulator: Emulator) -> None:
    added = ("Set-Cookie: route=machine-7; Path=/",)

    def judge(seen: Seen) -> str | None:
        is_in = not seen.is_handshake or "route=machine-7" in seen.headers.get("cookie", "")
        return None if is_in else "403 Forbidden\r\nContent-Length: 0"

    with behind(emulator.comfyui_url, judge=judge, added=added) as gateway:
        run_through(gateway, emulator)


def test_a_login_that_changes_is_asked_for_at_each_connection(emulator: Emulator) -> None:
    count = 0

    def fresh(request: Any) -> Any:
        nonlocal count
        count += 1
        request.headers["X-Nonce"] = str(count)
        return request

    with behind(emulator.comfyui_url) as gateway:
        run_through(gateway, emulator, auth=fresh)
        nonces = [seen.headers["x-nonce"] for seen in gateway.seen]
    assert len(set(nonces)) == len(nonces)


def test_a_login_by_challenge_reaches_the_socket(emulator: Emulator) -> None:
    from requests.auth import HTTPDigestAuth

    challenge = (
        '401 Unauthorized\r\nWWW-Authenticate: Digest realm="studio", nonce="abc", qop="auth"'
        "\r\nContent-Length: 0"
    )

    def judge(seen: Seen) -> str | None:
        given = seen.headers.get("authorization", "")
        path = seen.target.partition("?")[0]
        return None if given.startswith("Digest ") and f'uri="{path}' in given else challenge

    with behind(emulator.comfyui_url, judge=judge) as gateway:
        run_through(gateway, emulator, auth=HTTPDigestAuth("me", "pw"))
        # Now the handshake is the first request of its thread: the picture is on the server.
        run_through(gateway, emulator, auth=HTTPDigestAuth("me", "pw"))


def test_a_refused_login_is_a_clear_error_without_secrets(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    judge = demanding("Authorization", "Bearer right")
    with behind(emulator.comfyui_url, judge=judge) as gateway:
        url = url_through(gateway, emulator.comfyui_url)
        session = RunComfySession(f"{url}?key=qu3ry-secret", auth="wr0ng-token", clock=HastyClock())
        with pytest.raises(Unauthorized, match=r"401.*login.*auth=") as caught:
            session.start()
        session.close()
    shown = f"{caught.value!r} {caught.value} {session!r} {caplog.text}"
    assert "wr0ng-token" not in shown
    assert "qu3ry-secret" not in shown


def test_an_encoded_token_is_not_logged_either(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "400 Bad Request\r\nContent-Length: 14\r\n\r\nt0ken-of-mine/"
    with behind(emulator.comfyui_url, judge=lambda _: echo) as gateway:
        target = f"{url_through(gateway, emulator.comfyui_url)}?token=s3cret%2F%2B%20x%3D"
        with pytest.raises(ApiError) as caught:
            start(target, headers={"Authorization": "Custom t0ken-of-mine/"})
    from comfyloom._core.redact import redact

    shown = redact(caplog.text) + str(caught.value) + caught.value.body
    assert not any(secret in shown for secret in ("s3cret%2F", "s3cret/", "t0ken-of-mine"))


@pytest.mark.parametrize(
    ("target", "secret"),
    [
        ("comfy.example:8188/?token=s3cret", "s3cret"),
        ("ftp://comfy.example/#s3cret", "s3cret"),
        ("http://me:s3cret/x@comfy.example", "s3cret"),
        ("http://me:p@ss/s3cret@comfy.example", "s3cret"),
    ],
)
def test_a_wrong_target_shows_no_secret(target: str, secret: str) -> None:
    with pytest.raises(ConfigError, match="http") as caught:
        RunComfySession(target)
    assert secret not in str(caught.value)


def failing_with(error: Exception) -> Any:
    def sign(_: Any) -> Any:
        raise error

    return sign


@pytest.mark.parametrize("error", [ValueError("s3cret"), KeyError("s3cret"), OSError("s3cret")])
def test_a_login_that_fails_is_named(emulator: Emulator, error: Exception) -> None:
    with pytest.raises(ConfigError, match=f"auth: .* failed: {type(error).__name__}") as caught:
        start(emulator.comfyui_url, auth=failing_with(error))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, "x"])
def test_a_login_must_return_the_request(emulator: Emulator, answer: object) -> None:
    with pytest.raises(ConfigError, match="must return the request"):
        start(emulator.comfyui_url, auth=lambda _: answer)


def test_a_login_out_of_reach_sends_nothing_and_is_tried_again(emulator: Emulator) -> None:
    import requests

    failures = [requests.ReadTimeout("s3cret")]

    def sign(request: Any) -> Any:
        if request.method == "POST" and request.path_url.endswith("/prompt") and failures:
            raise failures.pop()
        return request

    with RunComfySession(emulator.comfyui_url, auth=sign, clock=HastyClock()) as session:
        assert session.run(small_workflow()).image.size
    assert len(emulator.state()["prompts"]) == 1


def test_a_socket_without_login_is_reported(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    def judge(seen: Seen) -> str | None:
        return "403 Forbidden\r\nContent-Length: 0" if seen.is_handshake else None

    with behind(emulator.comfyui_url, judge=judge) as gateway:
        target = url_through(gateway, emulator.comfyui_url)
        with RunComfySession(target, clock=HastyClock()) as session:
            session.run(small_workflow())
    assert "the event socket cannot connect: the server answered 403" in caplog.text


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("auth", ("me", "a\nb"), "line break"),
        ("auth", 7, "expected"),
        ("auth", ("me",), "expected"),
        ("auth", ("me", "pw", "x"), "expected"),
        ("auth", "", "empty"),
        ("auth", "Bearer", "without its value"),
        ("auth", "Bearer x\udc80", "surrogate"),
        ("headers", "X-Y: a", "mapping"),
        ("headers", [("X-Y", "a")], "mapping"),
        ("headers", {"X-Y": " a"}, "space"),
        ("headers", {"X-Y": "a\x01"}, "control character"),
        ("headers", {"Content-Length": "5"}, "set by each request"),
        ("headers", {"Transfer-Encoding": "chunked"}, "set by each request"),
        ("headers", {"Cookie": "a=ä"}, "percent-encoded"),
        ("verify", __file__, "no certificate"),
        ("headers", {"X Y": "a"}, "not the name of a header"),
        ("headers", {"X-Y": "a\r\nHost: evil"}, "line break"),
        ("headers", {"X-Y": 7}, "expected a string"),
        ("verify", "missing.pem", "does not exist"),
        ("client_cert", "missing.pem", "does not exist"),
        ("client_cert", __file__, "not a certificate"),
    ],
)
def test_bad_logins_are_refused_before_anything_is_sent(
    option: str, value: object, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        RunComfySession("http://127.0.0.1:1", **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["{broken s3cret", "no colon s3cret", '{"X Y": "s3cret"}'])
def test_bad_headers_of_the_environment_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("COMFYLOOM_HEADERS", value)
    with pytest.raises(ConfigError, match="per line, or a JSON object") as caught:
        RunComfySession("http://127.0.0.1:1")
    assert "s3cret" not in str(caught.value)


def test_the_login_of_a_comfyui_is_never_sent_to_the_platform() -> None:
    with Emulator() as emulator:
        environment = emulator.environment()
        base = environment["RUNCOMFY_API_BASE_URL"]
        with behind(base) as gateway:
            settings = Settings.of_environment(environment | {"RUNCOMFY_API_BASE_URL": gateway.url})
            with RunComfySession(
                settings=settings, headers={"X-Key": "my-own-key"}, clock=HastyClock()
            ) as session:
                session.run(small_workflow())
            asked = [seen.headers for seen in gateway.seen]
    assert asked
    assert not any("x-key" in headers for headers in asked)
    assert all(headers["authorization"].startswith("Bearer ") for headers in asked)
