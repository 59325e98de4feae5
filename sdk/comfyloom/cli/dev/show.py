"""The dev server's status, human-readable and as JSON."""

from __future__ import annotations

from typing import Any, Final

import attrs

from comfyloom._dev.health import DevStatus
from comfyloom.cli.shared import print_pairs, span, usd

COLOURS: Final = {
    "healthy": "green",
    "starting": "yellow",
    "launching": "yellow",
    "unreachable": "red",
    "unknown": "red",
}


def status_as_json(status: DevStatus) -> dict[str, Any]:
    """Return a status as values for JSON; `print_json` writes money as text, never rounded."""
    found = attrs.asdict(status)
    found["usd_per_hour"] = found.pop("price")
    return {name: None if value == "" else value for name, value in found.items()}


def pairs(status: DevStatus) -> dict[str, str]:
    """Return a status as human-readable values by name, one pair per line of output."""
    if not status.is_there:
        found = {"dev server": "stopped: there is none"}
        if status.total_cost or status.unpriced_s:
            found["spend"] = _spend(status)
        return found
    price = "price not known" if status.price is None else f"{status.price} USD an hour"
    version = f", ComfyUI {status.comfyui_version}" if status.comfyui_version else ""
    reason = f": {status.reason}" if status.reason else ""
    return {
        "dev server": status.server_id or "(not known yet)",
        "machine": f"{status.server_type}, {price}",
        "health": f"{status.health}{reason}{version}",
        "uptime": span(status.uptime_s),
        "lease": f"ends in {span(status.lease_left_s)} without use"
        if status.lease_left_s is not None
        else "not known",
        "spend": _spend(status),
        "prompts": prompts(status),
    }


def prompts(status: DevStatus) -> str:
    """Return the running and waiting prompts as human-readable text."""
    if not status.running and not status.pending:
        return "none"
    running = ", ".join(status.running)
    parts = [f"{len(status.running)} running ({running})"] if running else []
    return ", ".join([*parts, *([f"{len(status.pending)} waiting"] if status.pending else [])])


def print_status(status: DevStatus) -> None:
    """Print a status as human-readable lines."""
    colour = COLOURS.get(status.health)
    print_pairs(pairs(status), {"health": colour} if colour else None)


def _spend(status: DevStatus) -> str:
    unpriced = f", and {span(status.unpriced_s)} at an unknown price" if status.unpriced_s else ""
    last = "" if status.is_there else "the last "
    total = "" if status.total_cost is None else f", {usd(status.total_cost)} in total"
    return f"{last}{usd(status.session_cost)}{total}{unpriced}"
