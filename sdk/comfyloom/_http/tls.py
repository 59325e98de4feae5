"""How the certificate of a server is checked, for HTTP and for the event socket alike."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path
from typing import Any

import attrs

from comfyloom._http.access import Access
from comfyloom._http.pace import use_pace
from comfyloom._http.proxies import Proxy


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
        """Return the same without our rule for names: those of a named bundle go unchecked."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.bundle:
            kind = "capath" if Path(self.bundle).is_dir() else "cafile"
            context.load_verify_locations(**{kind: self.bundle})
        if self.is_named or not self.bundle:
            context.check_hostname = False
        if not self.bundle:
            context.verify_mode = ssl.CERT_NONE
        if self.client is not None:
            names = (self.client,) if isinstance(self.client, str) else self.client
            context.load_cert_chain(*names)
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
        if connected.getpeercert(binary_form=True) in context.get_ca_certs(binary_form=True):
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


def default_bundle() -> str:
    """Return the certificate authorities that the environment names, else certifi's."""
    from certifi import where

    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((os.environ[name] for name in names if os.environ.get(name)), where())


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

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
            if certificates.is_named:  # the context brings its own
                return
            usual: Any = super()  # its stubs are untyped
            # A proxy may be reached by TLS where the server is not.
            usual.cert_verify(conn, f"{conn.scheme}://", verify, cert)

    return Adapter(pool_maxsize=connections)
