"""Certificates: a server's own, an authority's, and ours."""

from __future__ import annotations

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
from comfyloom.errors import ConfigError, TransportError
from comfyloom.settings import Settings
from gateway import behind, run_through, start, url_through
from small_runs import small_workflow
from support import HastyClock

PASSWORD = "pass:wörd"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


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


def test_a_certificate_that_an_authority_has_signed_can_be_named_alone(
    emulator: Emulator, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued_to = authority.issue_cert("studio.example")  # reached by another name
    issued_to.configure_cert(context)
    (tmp_path / "cert.pem").write_bytes(issued_to.cert_chain_pems[0].bytes())
    with behind(emulator.comfyui_url, tls=context) as gateway:
        run_through(gateway, emulator, verify=tmp_path / "cert.pem")


def test_files_that_vanish_are_named(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = issued("127.0.0.1")
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with behind(emulator.comfyui_url, tls=context) as gateway:
        target = url_through(gateway, emulator.comfyui_url)
        with RunComfySession(target, verify=bundle, clock=HastyClock()) as session:
            bundle.unlink()
            with pytest.raises(ConfigError, match=r"ca\.pem: No such file"):
                session.run(small_workflow())
        authority.cert_pem.write_to_path(str(bundle))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        ours = authority.issue_cert("me@studio.example")
        ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
        session = RunComfySession(target, client_cert=tmp_path / "me.pem", clock=HastyClock())
        (tmp_path / "me.pem").unlink()
        with pytest.raises(ConfigError, match=r"me\.pem"):
            session.start()
        session.close()
        bundle.unlink()
        with pytest.raises(ConfigError, match=r"REQUESTS_CA_BUNDLE names .*ca.pem"):
            start(target)


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
