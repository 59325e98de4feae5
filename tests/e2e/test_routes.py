"""Proxies and addresses: which way a server is reached, and what its URL means."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from comfyloom import RunComfySession
from comfyloom._http.proxies import Proxy
from comfyloom.emulator import Emulator
from comfyloom.errors import ApiError, ConfigError, TransportError
from gateway import Gateway, Seen, basic, behind, run_through, start, url_through
from small_runs import small_workflow
from support import HastyClock, free_port


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


# --- proxies -------------------------------------------------------------------------------------


def elsewhere(emulator: Emulator, scheme: str = "http") -> str:
    """Return a URL of the emulator's ComfyUI that only a proxy can reach."""
    path = emulator.comfyui_url.partition("/comfyui")[2]
    return f"{scheme}://comfy.example.invalid/comfyui{path}"


def test_this_computer_is_never_reached_by_a_proxy(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind(emulator.comfyui_url, is_proxy=True) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with RunComfySession(emulator, clock=HastyClock()) as session:
            session.run(small_workflow())
            assert session.server().event_router.is_up
        port = emulator.comfyui_url.partition("127.0.0.1")[2]
        for host in ("127.0.0.1", "localhost"):
            with RunComfySession(f"http://{host}{port}", clock=HastyClock()) as session:
                session.run(small_workflow())
                assert session.server().event_router.is_up
        assert proxy.seen == []


def test_another_host_is_reached_by_it_with_its_socket(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind(emulator.comfyui_url, is_proxy=True) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pr0xy-pass@127.0.0.1:{proxy.port}")
        with RunComfySession(elsewhere(emulator), clock=HastyClock()) as session:
            session.run(small_workflow())
            assert session.server().event_router.is_up
        assert any(seen.method == "CONNECT" for seen in proxy.seen)


@pytest.mark.parametrize(
    ("login", "given"),
    [
        ("me:pw", ("me", "pw")),
        ("me", ("me", "")),
        ("me:p%C3%A4ss%E2%82%AC", ("me", "päss€")),
    ],
)
def test_a_proxy_gets_any_login(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, login: str, given: tuple[str, str]
) -> None:
    refusal = "407 Proxy Authentication Required\r\nContent-Length: 0"

    def judge(seen: Seen) -> str | None:
        # Within a tunnel, the proxy sees no more requests.
        is_in = seen.headers.get("proxy-authorization") == basic(*given)
        return None if is_in or seen.is_handshake else refusal

    with behind(emulator.comfyui_url, is_proxy=True, judge=judge) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{login}@127.0.0.1:{proxy.port}")
        with RunComfySession(elsewhere(emulator), clock=HastyClock()) as session:
            session.run(small_workflow())
            assert session.server().event_router.is_up
        tunnel = next(seen for seen in proxy.seen if seen.method == "CONNECT")
        assert tunnel.headers["proxy-authorization"] == basic(*given)


def test_a_server_with_its_own_certificate_is_reached_through_a_tunnel(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("comfy.example.invalid").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with (
        behind(emulator.comfyui_url, tls=context) as gateway,
        Gateway(("127.0.0.1", gateway.port), is_tunnel=True) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        target = elsewhere(emulator, "https")
        run_through(gateway, emulator, target, verify=tmp_path / "ca.pem")
        with pytest.raises(TransportError, match="TLS failed"):
            start(target)


def test_the_login_of_a_tls_proxy_never_crosses_the_network_openly(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    target = elsewhere(emulator)
    with behind(emulator.comfyui_url, is_proxy=True, tls=context) as proxy:
        monkeypatch.setenv("http_proxy", f"https://me:pr0xy-pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        with RunComfySession(target, clock=HastyClock()) as session:
            session.run(small_workflow())
        assert "event socket cannot go through the https:// proxy" in caplog.text
        assert not [seen for seen in proxy.seen if seen.method == "CONNECT"]
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(TransportError):  # its certificate is checked, too
            start(target)


def test_a_proxy_that_refuses_the_socket_is_reported(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def judge(seen: Seen) -> str | None:
        return "403 Forbidden\r\nContent-Length: 0" if seen.method == "CONNECT" else None

    with behind(emulator.comfyui_url, is_proxy=True, judge=judge) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        with RunComfySession(elsewhere(emulator), clock=HastyClock()) as session:
            session.run(small_workflow())
    assert "the event socket cannot connect: the proxy answered 403" in caplog.text


def test_socks_without_a_version_is_the_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:9")
    found = Proxy.of("http://comfy.example.invalid")
    assert found is not None
    assert (found.is_socks, found.name) == (True, "socks5://127.0.0.1:9")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:pr0xy-pass@127.0.0.1:{port}")
    with pytest.raises(TransportError, match=f"the proxy http://127.0.0.1:{port} ") as caught:
        start(f"{scheme}://comfy.example.invalid")
    assert "pr0xy-pass" not in str(caught.value)


@pytest.mark.parametrize("answer", ["502 Bad Gateway", "407 Proxy Authentication Required"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, scheme: str, answer: str
) -> None:
    with Gateway(("127.0.0.1", 1), judge=lambda _: f"{answer}\r\nContent-Length: 0") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{proxy.port}")
        named = f"proxy http://127.0.0.1:{proxy.port}"
        with pytest.raises((TransportError, ApiError), match=named):
            start(f"{scheme}://comfy.example.invalid")


def test_socks_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests.adapters

    def missing(*_: Any, **__: Any) -> None:
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing)
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:9")
    with pytest.raises(
        TransportError, match=r"socks5h://127.0.0.1:9 .*comfyloom\[socks\]"
    ) as caught:
        start("http://comfy.example.invalid")
    assert "\n" not in str(caught.value)


def test_every_form_of_loopback_is_recognised() -> None:
    from comfyloom._http.proxies import is_loopback

    for host in ("127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "a.localhost", "0.0.0.0"):
        assert is_loopback(f"http://{host}:8188/x"), host
    for host in ("127.1", "2130706433", "0x7f000001", "127.000.000.001", "127.0.0.1."):
        assert is_loopback(f"http://{host}/x"), host
    for host in ("[::1]", "[::ffff:127.0.0.1]", "[::]"):
        assert is_loopback(f"http://{host}:8188/x"), host
    for host in ("128.0.0.1", "localhost.example", "127.example", "[2001:db8::1]"):
        assert not is_loopback(f"http://{host}/x"), host
    assert ipaddress.ip_address("127.1.2.3").is_loopback


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    ["/", "/#", "/#workflows/flux.json", "/?", "/?clientId=xyz", "/index.html", "/ws?clientId=1"],
)
def test_an_address_is_understood_as_the_browser_shows_it(emulator: Emulator, suffix: str) -> None:
    with behind(emulator.comfyui_url) as gateway:
        run_through(gateway, emulator, url_through(gateway, emulator.comfyui_url) + suffix)
        assert not any("xyz" in seen.target for seen in gateway.seen)


def test_the_address_of_a_socket_is_understood(emulator: Emulator) -> None:
    target = emulator.comfyui_url.replace("http", "ws", 1) + "/ws"
    with RunComfySession(target, clock=HastyClock()) as session:
        session.run(small_workflow())
        assert session.server().event_router.is_up


@pytest.mark.parametrize(
    "target",
    [
        *("file:///x", "ftp://h/", "http://", "http://h:99999", "http://h:0", "http://[::1", "x"),
        *("http://http://h:8188", "http://h h/", "http://*/", "http://a@b/c@d"),
    ],
)
def test_anything_else_is_refused_for_what_it_is(target: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        RunComfySession(target)
