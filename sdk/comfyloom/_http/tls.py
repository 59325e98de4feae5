"""How the certificate of a server is checked, for HTTP and for the event socket alike."""

from __future__ import annotations

import os
import re
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._http.access import Access, basic
from comfyloom._http.pace import use_pace
from comfyloom._http.proxies import Proxy
from comfyloom.errors import ConfigError

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@attrs.frozen
class Certificates:
    """The certificates that a server may show.

    Attributes:
        bundle: A file or folder with those of authorities, or of the server itself; "" to accept
            any certificate.
        client: Our own, by the names of files.
        is_named: Whether the user named the bundle for this server. A server that shows a
            certificate of it is accepted under any name: what ComfyUI's manual makes for
            `--tls-certfile` names no host.
    """

    bundle: str
    client: str | tuple[str, str] | None
    is_named: bool

    @classmethod
    def of(cls, access: Access) -> Certificates:
        """Return those that the settings of a server name, else the environment, else certifi's."""
        if access.verify is False:
            return cls("", access.client_cert, is_named=False)
        named = access.verify if isinstance(access.verify, str) else ""
        return cls(named or default_bundle(), access.client_cert, is_named=bool(named))

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings for one connection."""
        if self.is_named:
            return _NamedContext.of(self)
        return self.plain_context()

    def plain_context(self) -> ssl.SSLContext:
        """Return the same without our rule for names: those of a named bundle go unchecked.

        Raises:
            ConfigError: A file cannot be read any more.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        names = (self.client,) if isinstance(self.client, str) else self.client
        try:
            if self.bundle:
                kind = "capath" if Path(self.bundle).is_dir() else "cafile"
                context.load_verify_locations(**{kind: self.bundle})
            if names is not None:
                context.load_cert_chain(*names)
        except OSError as error:
            files = ", ".join(filter(None, (self.bundle, *(names or ()))))
            text = f"cannot read a certificate of {files}: {error.strerror or error}"
            raise ConfigError(text) from None
        if self.is_named:
            # A certificate that an authority has signed can be named alone.
            context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        if self.is_named or not self.bundle:
            context.check_hostname = False
        if not self.bundle:
            context.verify_mode = ssl.CERT_NONE
        return context


class _NamedContext(ssl.SSLContext):
    """Accepts a server by its certificate, or by an authority and the server's name.

    Every connection is made with a context of its own. urllib3 changes a given context for each
    connection; a thread that is in a handshake with it then ends the process.
    """

    _certificates: Certificates

    @classmethod
    def of(cls, certificates: Certificates) -> _NamedContext:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._certificates = certificates
        return context

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Connect, and refuse a certificate of an authority that names another host."""
        from urllib3.util.ssl_match_hostname import CertificateError, match_hostname

        context = self._certificates.plain_context()
        connected = context.wrap_socket(*args, **options)
        if connected.getpeercert(binary_form=True) in {*_read(Path(self._certificates.bundle))}:
            return connected
        try:
            shown: Any = connected.getpeercert()
            match_hostname(shown, str(options.get("server_hostname")))
        except CertificateError:
            connected.close()
            raise ssl.SSLCertVerificationError("the certificate is for another host") from None
        return connected

    def wrap_bio(self, *_: Any, **__: Any) -> ssl.SSLObject:
        """Refuse TLS inside of TLS, in which the host could not be checked."""
        raise ssl.SSLError("a certificate of your own cannot be used through an https:// proxy")


def _read(bundle: Path) -> Iterator[bytes]:
    """Yield the certificates in a file or folder; a context lists only those of authorities."""
    for file in sorted(bundle.iterdir()) if bundle.is_dir() else [bundle]:
        for found in _PEM.finditer(file.read_text("ascii", "replace")):
            yield ssl.PEM_cert_to_DER_cert(found[0])


def default_bundle() -> str:
    """Return the certificate authorities that the environment names, else certifi's.

    Raises:
        ConfigError: The environment names a file that does not exist.
    """
    from certifi import where

    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := os.environ.get(name):
            if not Path(bundle).exists():
                raise ConfigError(f"{name} names {bundle}, which does not exist")
            return bundle
    return where()


def adapter(certificates: Certificates, proxy: Proxy | None, connections: int) -> Any:
    """Return an adapter of `requests` that checks certificates this way.

    Args:
        certificates: How they are checked.
        proxy: For messages; see `proxy_name`.
        connections: Connections kept open for later requests.
    """
    from requests.adapters import HTTPAdapter

    if not certificates.bundle:
        # Asked for by name: reminding of it at each request would only hide other warnings.
        warnings.filterwarnings("ignore", message="Unverified HTTPS request")

    named: dict[str, Any] = {}
    if certificates.is_named:
        named = {"ssl_context": certificates.context(), "assert_hostname": False}

    class Adapter(HTTPAdapter):
        proxy_name = proxy.name if proxy is not None else ""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **{**options, **named})
            use_pace(self.poolmanager)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            is_new = proxy not in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **{**options, **named})
            return use_pace(manager) if is_new else manager

        def proxy_headers(self, proxy: str) -> dict[str, str]:
            # The usual ones have Latin-1 only, and need a password.
            login = Proxy(proxy).login
            return {} if login is None else {"Proxy-Authorization": basic(*login)}

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
            if certificates.is_named:  # the context brings its own
                return
            usual: Any = super()  # its stubs are untyped
            # A proxy may be reached by TLS where the server is not.
            usual.cert_verify(conn, f"{conn.scheme}://", verify, cert)

    return Adapter(pool_maxsize=connections)
