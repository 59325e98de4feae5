"""How a ComfyUI server is asked: the settings that any target may need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import attrs

from comfyloom._core.redact import register_secret
from comfyloom._http.access import Access, basic, bearer
from comfyloom.errors import ConfigError
from comfyloom.settings.declaration import (
    HEADERS_FORM,
    Auth,
    ClientCert,
    FileName,
    Headers,
    Verify,
    check_all,
    is_word,
    meta,
)


def is_auth(value: Auth) -> str | None:
    """Return what is wrong with a login, None if it is valid."""
    if callable(value):
        return None
    is_pair = isinstance(value, tuple)
    parts: list[object] = list(value) if is_pair else [value]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts) or len(parts) != 1 + is_pair:
        return "expected (user, password), a string, or a callable"
    if texts[0].strip().lower() in _SCHEMES:
        return f"it is the name of a login without its value: {texts[0].strip()}"
    problems = (_line_problem(text) for text in texts)
    return next(filter(None, problems), None) if texts[0] else "it is empty"


def is_headers(value: object) -> str | None:
    """Return what is wrong with header lines, None if they are valid."""
    if not isinstance(value, Mapping):
        return "expected a mapping of names to values"
    for name, text in cast("Mapping[object, object]", value).items():
        if not isinstance(name, str) or not _is_name(name):
            return f"{name!r} is not the name of a header"
        if name.lower() in _OF_EACH_REQUEST:
            return f"{name} is set by each request"
        if not isinstance(text, str):
            return f"{name}: expected a string"
        if problem := _line_problem(text):
            return f"{name}: {problem}"
        if name.lower() == "cookie" and not text.isascii():
            return f"{name}: it has letters outside of ASCII, which must be percent-encoded"
    return None


def is_verify(value: object) -> str | None:
    """Return what is wrong with the way to check certificates, None if it is valid."""
    if isinstance(value, bool):
        return None
    if (problem := _file_problem(value)) is not None:
        return problem
    path = Path(cast("FileName", value))
    if path.is_dir():
        return None
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError):
        return f"{path} has no certificate in PEM"
    return None


def is_client_cert(value: ClientCert) -> str | None:
    """Return what is wrong with the files of a client certificate, None if they are valid."""
    files = _files(value)
    if len(files) not in (1, 2):
        return "expected one file, or a certificate and its key"
    if (
        problem := next((found for file in files if (found := _file_problem(file))), None)
    ) is not None:
        return problem
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            *[os.fspath(each) for each in files]
        )
    except (OSError, ssl.SSLError):
        return "it is not a certificate with its key, in PEM and without a password"
    return None


def _files(value: ClientCert) -> tuple[FileName, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _file_problem(value: object) -> str | None:
    try:
        path = Path(cast("FileName", value))
    except TypeError:
        return f"expected a file, got {value!r}"
    return None if path.exists() else f"{path} does not exist"


@attrs.frozen(kw_only=True)
class ComfyUISettings:
    """How a ComfyUI server is asked. Nothing of it is sent to RunComfy's API, or to another host.

    Attributes:
        auth: A login: `(user, password)`, `"user:password"`, a bearer token, a whole header such as
            `"Bearer …"`, or a callable that adds it to each request.
        headers: Further headers, also `Cookie`; in an environment variable as a JSON object, or one
            `Name: value` per line.
        verify: Whether to check the server's certificate, or a file or folder of certificates to
            check it with.
        api_key_comfy_org: The key for partner nodes, which call paid services; it is sent only with
            graphs that may have such nodes.
        keep_all: Whether nodes run that no wanted result needs.
        client_cert: The file of our certificate with its key, or one file for each.
    """

    auth: Auth | None = attrs.field(
        default=None,
        metadata=meta(
            "COMFYLOOM_AUTH", is_secret=True, expected="user:password or a token", check=is_auth
        ),
        repr=False,
    )
    headers: Headers = attrs.field(
        factory=dict[str, str],
        metadata=meta("COMFYLOOM_HEADERS", is_secret=True, expected=HEADERS_FORM, check=is_headers),
        repr=False,
    )
    verify: Verify = attrs.field(default=True, metadata=meta("COMFYLOOM_VERIFY", check=is_verify))
    client_cert: ClientCert | None = attrs.field(
        default=None, metadata=meta("COMFYLOOM_CLIENT_CERT", check=is_client_cert)
    )

    api_key_comfy_org: str | None = attrs.field(
        default=None,
        metadata=meta("COMFYLOOM_API_KEY_COMFY_ORG", is_secret=True, check=is_word),
        repr=False,
    )
    keep_all: bool = attrs.field(default=False, metadata=meta("COMFYLOOM_KEEP_ALL"))

    def __attrs_post_init__(self) -> None:
        check_all(self)
        register_secret(self.api_key_comfy_org or "")

    def demand_checked_certificates(self) -> None:
        """Refuse to rent a machine without checking that it is RunComfy's.

        Raises:
            ConfigError: `verify` is False.
        """
        if self.verify is False:
            raise ConfigError(
                "verify=False is not for RunComfy, whose certificates are valid: it would show the "
                "results to whoever answers. Remove it, or COMFYLOOM_VERIFY"
            )


def access_of(settings: ComfyUISettings) -> Access:
    """Return what every request to a ComfyUI carries."""
    auth, verify, cert = settings.auth, settings.verify, settings.client_cert
    names = [] if cert is None else [os.fspath(file) for file in _files(cert)]
    return Access(
        authorization="" if callable(auth) else _authorization(auth),
        signer=auth if callable(auth) else None,
        headers=settings.headers,
        verify=(None if verify else False) if isinstance(verify, bool) else os.fspath(verify),
        client_cert=(names[0], names[1]) if len(names) > 1 else next(iter(names), None),
    )


def machine_access_of(settings: ComfyUISettings) -> Access:
    """Return the same for the ComfyUI of a RunComfy machine: its certificate is always checked."""
    access = access_of(settings)
    return attrs.evolve(access, verify=None) if access.verify is False else access


def _authorization(auth: str | tuple[str, str] | None) -> str:
    """Return the header of a login."""
    if auth is None:
        return ""
    if not isinstance(auth, str):
        return basic(*auth)
    scheme, space, _ = auth.partition(" ")
    if space and ":" not in scheme:
        return auth
    user, colon, password = auth.partition(":")
    return basic(user, password) if colon else bearer(auth)


_SCHEMES: Final = frozenset({"basic", "bearer", "digest", "token"})
_OF_EACH_REQUEST: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "expect", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)


_CONTROLS: Final = frozenset({*range(32), 127}) - {ord("\t")}


def _line_problem(text: str) -> str | None:
    if any(character in text for character in "\r\n\0"):
        return "it contains a line break"
    if any(ord(character) in _CONTROLS for character in text):
        return "it contains a control character"
    if text != text.strip():
        return "it begins or ends with a space"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "it contains a lone surrogate, which is not valid Unicode"
    return None


def _is_name(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(' :"(),/;')
