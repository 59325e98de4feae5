"""Logins and certificates: every request and the event socket carry the same."""

from __future__ import annotations

import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from comfyloom.errors import ApiError, ConfigError, TransportError
from comfyloom.settings import Settings
from gateway import Seen, basic, behind, demanding, run_through, start, url_through
from small_runs import small_workflow
from support import HastyClock

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
        ("auth", ("me",), "expected"),
        ("auth", ("me", "pw", "x"), "expected"),
        ("auth", "", "empty"),
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


def test_many_threads_share_one_set_of_certificates() -> None:
    # In OpenSSL, changing a context while another thread connects with it is a crash.
    lab = Path(__file__).parents[1] / "tls_lab.py"
    done = subprocess.run([sys.executable, lab, "2000"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2000\n"), done.stderr


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
