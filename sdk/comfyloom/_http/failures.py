"""What a failed request means: for the user, and for another attempt."""

from __future__ import annotations

from comfyloom._core.redact import redact
from comfyloom._http.proxies import Proxy


def describe(error: Exception, proxy: Proxy | None = None) -> str:
    """Return a short message for an error of the HTTP library, without secrets.

    Args:
        error: The error.
        proxy: The proxy that the request went through.
    """
    import requests

    by_way_of = f" (by way of the proxy {proxy.name})" if proxy is not None else ""
    if isinstance(error, requests.exceptions.ProxyError) and proxy is not None:
        return redact(f"the proxy {proxy.name} cannot be used: {_innermost(error)}")
    if isinstance(error, requests.exceptions.SSLError):
        return redact(f"TLS failed: {_innermost(error)}{_certificate_hint(error)}{by_way_of}")
    if isinstance(error, requests.exceptions.InvalidSchema) and proxy and proxy.is_socks:
        return f"the proxy {proxy.name} needs PySocks: pip install 'comfyloom[socks]'"
    if isinstance(error, ValueError):
        what = f"the proxy {proxy.name}" if proxy is not None else "the URL"
        return f"{what} is wrong ({type(error).__name__})"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection in time{by_way_of}"
    if isinstance(error, requests.Timeout):
        return f"no answer in time{by_way_of}"
    return redact(_innermost(error)) + by_way_of


def _certificate_hint(error: Exception) -> str:
    """Return what to do about a certificate that nobody vouches for."""
    if not _is_about_a_certificate(error):
        return ""
    return (
        "; if you trust this server, pass verify='cert.pem' (its certificate) or verify=False to "
        "RunComfySession, or set COMFYLOOM_VERIFY"
    )


def is_transient(error: Exception) -> bool:
    """Whether another attempt may help: not after an invalid URL, proxy or certificate."""
    return not isinstance(error, ValueError) and not _is_about_a_certificate(error)


def reached_the_server(error: Exception) -> bool:
    """Return False if a failed request certainly never reached the server."""
    import requests

    if isinstance(error, requests.ConnectTimeout | ValueError):
        return False
    if isinstance(error, requests.exceptions.SSLError):
        # TLS can also fail while the answer is read; the certificate is checked before.
        return not _is_about_a_certificate(error)
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    cause: object = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return not isinstance(reason, NewConnectionError | NameResolutionError)


def _is_about_a_certificate(error: BaseException) -> bool:
    import ssl

    seen: BaseException | None = error
    while seen is not None:
        reason = getattr(seen.args[0], "reason", None) if seen.args else None
        for each in (seen, reason, *seen.args):
            if isinstance(each, ssl.SSLCertVerificationError):
                return True
        deeper = reason if isinstance(reason, BaseException) else None
        seen = seen.__cause__ or seen.__context__ or deeper
    return False


def _innermost(error: BaseException) -> str:
    """Return the operating system's message, which does not name the host."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    if isinstance(seen, TimeoutError):
        return "the answer takes too long"
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    # The answer of a proxy to CONNECT is an error without a number.
    tunnel = str(seen) if "Tunnel" in str(seen) else ""
    return tunnel or type(seen).__name__
