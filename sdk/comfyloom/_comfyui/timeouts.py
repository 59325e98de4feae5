"""How long a server may be silent before it is taken for gone."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Patience:
    """Longest silences of a ComfyUI server, in seconds.

    Attributes:
        poll_s: While it answers a question about queue or history.
        submit_s: While it answers a graph; validation imports models' file lists.
        upload_s: While it takes a file.
        download_s: While it sends one.
        cancel_s: While it cancels; whoever cancels tries again at once.
        ping_s: On the event socket, before it is pinged; after as long again it is given up.
    """

    poll_s: float = 10.0
    submit_s: float = 60.0
    upload_s: float = 60.0
    download_s: float = 60.0
    cancel_s: float = 2.0
    ping_s: float = 10.0


PATIENCE = Patience()
