"""Eight threads connect to one TLS server, each request over a connection of its own.

Run as a process of its own: a fault here ends the interpreter.

    python tests/tls_lab.py REQUESTS
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trustme

from comfyloom._http.access import Access
from comfyloom._http.transport import Transport

_THREADS = 8
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def main(requests: int) -> None:
    """Send that many requests, and print how many were answered."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    ours = authority.issue_cert("me@studio.example")
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)

    def answer(client: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(_ANSWER)

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(_THREADS) as threads:
        bundle, certificate, key = (Path(name, file) for file in ("ca.pem", "me.pem", "me.key"))
        authority.cert_pem.write_to_path(str(bundle))
        ours.cert_chain_pems[0].write_to_path(str(certificate))
        ours.private_key_pem.write_to_path(str(key))
        access = Access(verify=str(bundle), client_cert=(str(certificate), str(key)))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        transport = Transport(url, "the server", access=access)
        answers = threads.map(lambda _: transport.send("GET", "/").text, range(requests))
        sys.stdout.write(f"{list(answers).count('ok')}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
