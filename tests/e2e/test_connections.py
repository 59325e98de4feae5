"""Logins, certificates and proxies: every request and the event socket carry the same."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from comfyloom.errors import ApiError, ConfigError, TransportError
from comfyloom.settings import Settings
from gateway import Gateway, Seen, basic, behind, demanding, url_through
from small_runs import small_workflow
from support import HastyClock, free_port

PASSWORD = "pass:wörd"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def run_through(gateway: Gateway, emulator: Emulator, url: str = "", **options: Any) -> None:
    """Run one workflow through a gateway, and check that its event socket was let in."""
    target = url or url_through(gateway, emulator.comfyui_url)
    with RunComfySession(target, clock=HastyClock(), **options) as session:
        session.run(small_workflow())
        router = session.server().event_router
        assert router.is_up
    assert gateway.handshakes


def start(target: str, **options: Any) -> None:
    """Reach a server, and leave it."""
    with RunComfySession(target, clock=HastyClock(), **options):
        pass


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
        ("Cookie", "session=abc; lang=de", {"headers": {"Cookie": "session=abc; lang=de"}}),
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
        with pytest.raises(ApiError, match=r"401.*login.*auth=") as caught:
            session.start()
        session.close()
    shown = f"{caught.value!r} {caught.value} {session!r} {caplog.text}"
    assert "wr0ng-token" not in shown
    assert "qu3ry-secret" not in shown


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
        ("auth", "", "empty"),
        ("headers", {"X Y": "a"}, "not the name of a header"),
        ("headers", {"X-Y": "a\r\nHost: evil"}, "line break"),
        ("headers", {"X-Y": 7}, "line break"),
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


# --- certificates --------------------------------------------------------------------------------


def issued(*names: str) -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return authority, context


def test_an_unknown_certificate_is_refused_with_a_hint(emulator: Emulator) -> None:
    _, context = issued("127.0.0.1")
    with behind(emulator.comfyui_url, tls=context) as gateway:
        target = url_through(gateway, emulator.comfyui_url)
        with pytest.raises(TransportError, match=r"verify=.*COMFYLOOM_VERIFY") as caught:
            start(target)
        assert len(caught.value.errors) == 1  # another attempt would not help


def test_verify_false_and_a_certificate_of_an_authority(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = issued("127.0.0.1")
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with behind(emulator.comfyui_url, tls=context) as gateway:
        run_through(gateway, emulator, verify=False)
        run_through(gateway, emulator, verify=bundle)
        monkeypatch.setenv("COMFYLOOM_VERIFY", "no")
        run_through(gateway, emulator)


def test_an_authority_vouches_only_for_the_named_host(emulator: Emulator, tmp_path: Path) -> None:
    authority, context = issued("other.example")
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with behind(emulator.comfyui_url, tls=context) as gateway:
        with pytest.raises(TransportError, match="TLS failed"):
            start(url_through(gateway, emulator.comfyui_url), verify=bundle)
        assert not gateway.seen


def test_a_certificate_of_our_own_is_shown(emulator: Emulator, tmp_path: Path) -> None:
    authority, context = issued("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    mine = authority.issue_cert("me@studio.example")
    certificate, key, bundle = (tmp_path / name for name in ("me.pem", "me.key", "ca.pem"))
    mine.cert_chain_pems[0].write_to_path(str(certificate))
    mine.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(bundle))
    with behind(emulator.comfyui_url, tls=context) as gateway:
        run_through(gateway, emulator, verify=bundle, client_cert=(certificate, key))


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate as ComfyUI's manual does: it names no host."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CommonNameOrHostname")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return certificate, context


def test_comfyuis_own_self_signed_certificate_is_pinned(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, context = self_signed(tmp_path)
    other, _ = self_signed(tmp_path / "other")
    with behind(emulator.comfyui_url, tls=context) as gateway:
        run_through(gateway, emulator, verify=certificate)
        target = url_through(gateway, emulator.comfyui_url)
        with pytest.raises(TransportError, match="TLS failed"):
            start(target, verify=other)


def test_a_rented_machine_is_always_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    account: dict[str, Any] = {"api_token": "tok-1", "user_id": "me"}
    with pytest.raises(ConfigError, match="verify=False"):
        RunComfySession(settings=Settings(**account), verify=False)
    with pytest.raises(ConfigError, match="verify=False"):
        RunComfySession(settings=Settings(**account, verify=False))
    monkeypatch.setenv("COMFYLOOM_VERIFY", "0")
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", "tok-1")
    monkeypatch.setenv("RUNCOMFY_USER_ID", "me")
    with pytest.raises(ConfigError, match="COMFYLOOM_VERIFY"):
        RunComfySession()


# --- proxies -------------------------------------------------------------------------------------


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
        path = emulator.comfyui_url.partition("/comfyui")[2]
        target = f"http://comfy.example.invalid/comfyui{path}"
        with RunComfySession(target, clock=HastyClock()) as session:
            session.run(small_workflow())
            assert session.server().event_router.is_up
        assert any(seen.method == "CONNECT" for seen in proxy.seen)


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
    for host in ("[::1]", "[::ffff:127.0.0.1]", "[::]"):
        assert is_loopback(f"http://{host}:8188/x"), host
    for host in ("128.0.0.1", "localhost.example", "127.example", "[2001:db8::1]"):
        assert not is_loopback(f"http://{host}/x"), host
    assert ipaddress.ip_address("127.1.2.3").is_loopback


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    ["/", "/#", "/#workflows/flux.json", "/?", "/?clientId=abc", "/index.html", "/ws?clientId=1"],
)
def test_an_address_is_understood_as_the_browser_shows_it(emulator: Emulator, suffix: str) -> None:
    with behind(emulator.comfyui_url) as gateway:
        run_through(gateway, emulator, url_through(gateway, emulator.comfyui_url) + suffix)
        assert not any("abc" in seen.target for seen in gateway.seen)


def test_the_address_of_a_socket_is_understood(emulator: Emulator) -> None:
    target = emulator.comfyui_url.replace("http", "ws", 1) + "/ws"
    with RunComfySession(target, clock=HastyClock()) as session:
        session.run(small_workflow())
        assert session.server().event_router.is_up


@pytest.mark.parametrize(
    "target",
    ["file:///x", "ftp://h/", "http://", "http://h:99999", "http://h:0", "http://[::1", "x"],
)
def test_anything_else_is_refused_for_what_it_is(target: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        RunComfySession(target)
