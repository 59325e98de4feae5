"""Whether an account could run something now: on a machine that answers, or on a new one."""

from __future__ import annotations

from statistics import median
from typing import Final

import attrs

from comfyloom._backends.availability import Availability, request_s, why_silent
from comfyloom._core.clock import Clock
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import Timeouts
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.connect import connect
from comfyloom._machines.launch import with_article
from comfyloom._money.prices import PriceList
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom._runcomfy.rate_limits import RESERVE
from comfyloom.settings import Settings

USUAL_START_S: Final = 210.0
"""The middle of the two to five minutes that RunComfy documents for a start."""
_LATEST: Final = 20


@attrs.frozen(kw_only=True)
class AccountAvailability:
    """Looks for what a session of an account would use; nothing is launched or recorded.

    Args:
        is_real: Whether there may be a dev server; not with an emulator of this process.
        may_launch: Whether a machine may be launched.
    """

    settings: Settings
    timeouts: Timeouts
    clock: Clock
    is_real: bool
    may_launch: bool

    def look(self) -> Availability:
        """Ask the platform and the dev server, both at once.

        Raises:
            ComfyloomError: The platform refuses, or does not answer.
        """
        state = self._dev_state()
        silence: list[str] = []
        with ServerApi.of(
            self.settings, timeouts=self.timeouts, clock=self.clock, reserve=RESERVE
        ) as api:
            probing = daemon_thread(lambda: silence.append(_why_silent(state, api)), "availability")
            probing.start()
            limit_s = request_s(self.timeouts)
            listing = api.list_servers(backoff=NO_RETRY, timeout_s=limit_s)
            probing.join()
        living = [server for server in listing if not server.has_ended]
        dev = next((each for each in living if state and each.server_id == state.server_id), None)
        if state is not None and dev is not None:
            found = self._on_dev_server(state, dev, silence[0])
            if found.available or not self.may_launch:
                return found
        return self._on_a_new_machine(living)

    def _dev_state(self) -> DevState | None:
        """Return the state of the dev server, None if there is none that fits the settings."""
        if not self.is_real:
            return None
        with best_effort():
            state = StateFile(self.settings.state_file, self.timeouts).read()
            asked, version = self.settings.asked_server_type, self.settings.workflow_version_id
            fits = asked is None or state.server_type in asked
            is_version = version in (None, state.workflow_version)
            if state.server_id and state.is_of(self.settings) and fits and is_version:
                return state
        return None

    def _on_dev_server(self, state: DevState, server: Server, reason: str) -> Availability:
        price = PriceList.of(self.settings).per_hour(state.server_type)
        name = f"the dev server {state.server_id}"
        if not server.is_ready:
            # It is ready some minutes after its launch; how long ago that was is known.
            elapsed_s = max(0.0, self.clock.time() - state.launch_time)
            wait_s = max(1.0, self._usual_start_s(state.server_type) - elapsed_s)
            why = f"{name} is starting"
            return Availability(available=True, why=why, wait_s=wait_s, usd_per_hour=price)
        if reason:
            return Availability.nothing(f"{name} does not answer: {reason}")
        return Availability(available=True, why=f"{name} answers", wait_s=0.0, usd_per_hour=price)

    def _on_a_new_machine(self, living: list[Server]) -> Availability:
        if not self.may_launch:
            return Availability.nothing("there is no dev server, and nothing may be launched")
        most = self.settings.max_machines
        if most is not None and len(living) >= most:
            text = f"the account has {len(living)} machines, and max_machines is {most}"
            return Availability.nothing(text)
        server_type = self.settings.server_type[0]
        return Availability(
            available=True,
            why=f"{with_article(server_type)} would be launched",
            wait_s=self._usual_start_s(server_type),
            usd_per_hour=PriceList.of(self.settings).per_hour(server_type),
        )

    def _usual_start_s(self, server_type: str) -> float:
        """Return how long machines of a type took to start, as far as the ledger knows."""
        if self.is_real:
            with best_effort():
                records = records_of(self.settings, self.timeouts)
                if times := records.list_start_times(server_type, _LATEST):
                    return max(0.0, median(times))  # the platform's clock and ours differ
        return USUAL_START_S


def _why_silent(state: DevState | None, api: ServerApi) -> str:
    """Return why the ComfyUI of the dev server does not answer, "" if it does."""
    if state is None or not state.base_url:
        return "its address is not known yet"
    comfyui = connect(state.base_url, api)
    try:
        return why_silent(comfyui)
    finally:
        comfyui.close()
