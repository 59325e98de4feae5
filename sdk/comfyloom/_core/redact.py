"""Keep secrets out of messages, log records and tracebacks.

The account token and the URL of a machine are secrets: a machine has no other authentication than
its URL. Code that receives one registers it with `register_secret`, and `redact` removes it.
"""

from __future__ import annotations

import logging
from typing import Final

TOKEN: Final = "<token>"
MACHINE: Final = "<machine>"

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# A shorter value would replace ordinary words.
_SHORTEST: Final = 4
# A path this long identifies a machine; a shorter one ("/api") is not a secret.
_SECRET_PATH: Final = 16

_secrets: dict[str, str] = {}


def register_secret(value: str, label: str = TOKEN) -> None:
    """Show `label` instead of `value` in every message from now on."""
    if len(value) >= _SHORTEST:
        _secrets[value] = label


def register_url_secret(url: str) -> None:
    """Register the URL of a machine, its WebSocket URL, and its host name alone."""
    from urllib.parse import urlsplit

    bare = url.rstrip("/")
    parts = urlsplit(bare)
    register_secret(bare, MACHINE)
    register_secret(bare.replace("http", "ws", 1), MACHINE)
    # A name without a dot ("comfy") may be an ordinary word of other messages.
    if parts.hostname and "." in parts.hostname and parts.hostname not in _LOOPBACK:
        register_secret(parts.hostname, MACHINE)
    if len(parts.path) >= _SECRET_PATH:
        register_secret(parts.path, MACHINE)
        # A gateway's error page may show it without its slash.
        register_secret(parts.path.strip("/"), MACHINE)


def redact(text: str) -> str:
    """Return `text` with every registered secret replaced by its label."""
    # Longest first: a URL must be replaced before the host name that it contains.
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _secrets[secret])
    return text


class RedactingFilter(logging.Filter):
    """Removes secrets from a record's message, arguments and traceback."""

    _formatter: Final = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place and let it through."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text = redact(self._formatter.formatException(record.exc_info))
        return True


def install() -> logging.Logger:
    """Return the logger `comfyloom`; it and our HTTP libraries' loggers are redacted."""
    redacting = RedactingFilter()
    for name in ("comfyloom", "urllib3.connectionpool", "websocket"):
        logging.getLogger(name).addFilter(redacting)
    return logging.getLogger("comfyloom")


log = install()
"""The only logger of the SDK: a filter does not apply to child loggers."""
