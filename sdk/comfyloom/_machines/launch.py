"""Launching one machine; if the answer is lost, `lost_launch` finds it again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from comfyloom._core.json import mapping
from comfyloom._core.redact import log
from comfyloom._machines.lost_launch import LaunchSearch
from comfyloom._money.prices import PriceList
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.client import LAUNCH, ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    MachineLeak,
    MachineLimit,
    MachineStartFailed,
    NotFound,
    TransportError,
    Unauthorized,
)

if TYPE_CHECKING:
    from comfyloom.settings import Settings

T = TypeVar("T")

SHORTEST_LEASE_S: Final = 900
LONGEST_LEASE_S: Final = 1799
_GIVEN_UP: Final = frozenset({408, 425, 499})
_UNAVAILABLE: Final = 503


def draw_lease(rng: random.Random) -> int:
    """Return a duration in seconds that is not a whole number of minutes."""
    while (seconds := rng.randint(SHORTEST_LEASE_S, LONGEST_LEASE_S)) % 60 == 0:
        pass
    return seconds


@attrs.frozen(kw_only=True)
class Launch:
    """One launch, from the intent to a machine's id. It is never sent twice.

    Args:
        workflow_version_id: What to launch.
        server_type: The machine type.
        launched_for: Its distinctive duration, in seconds.
        on_launched: Called with the machine before anything else can fail.
        on_intent: Called just before it is sent, with the duration and the machines before it.
        max_machines: How many the account may have at once, None for no limit.
        tracker: Gets the intent before the launch, and the outcome of one that fails.
        valid_s: How long its record is valid without a heartbeat; by default `launched_for`.
    """

    api: ServerApi
    workflow_version_id: str
    server_type: str
    launched_for: int
    on_launched: Callable[[Server], object]
    on_intent: Callable[[int, frozenset[str] | None], object] = lambda _seconds, _before: None
    max_machines: int | None = None
    prices: PriceList = attrs.field(factory=PriceList)
    tracker: NullTracker = attrs.field(factory=NullTracker)
    valid_s: float = 0.0

    def send(self) -> Server:
        """Launch a machine and return it.

        Raises:
            MachineStartFailed: The launch got no answer, and no machine appeared.
            MachineLeak: The launch got no answer, and it is unclear which machine is ours.
            MachineLimit: The account has too many machines.
            ApiError: The platform refuses it.
        """
        # Counting the machines and launching one more must not overlap with another launch.
        with self.tracker.exclusive_launch() if self.max_machines else nullcontext():
            before = self._servers()
            self.tracker.record_intent(self.launched_for, before, self.valid_s or self.launched_for)
            try:
                self.on_intent(self.launched_for, before)
            except ComfyloomError:
                self.tracker.record_ended("not sent")
                raise
            try:
                server = self._request(before)
            except MachineLeak:
                # The guard continues the search; it does not guess either.
                self.tracker.hand_over_to_guard()
                raise
            except ComfyloomError as error:
                if isinstance(error, ApiError) and not isinstance(error, Unauthorized):
                    # Whatever refused it may have passed it on: the guard makes sure.
                    self.tracker.record_refused()
                else:
                    is_search = isinstance(error, MachineStartFailed)
                    self.tracker.record_ended("never appeared" if is_search else "refused")
                raise
            self.on_launched(server)
            return server

    def _request(self, before: frozenset[str] | None) -> Server:
        """Send the launch once; without a valid answer, look for its machine."""
        try:
            return self.api.launch(self.workflow_version_id, self.server_type, self.launched_for)
        except (TransportError, ApiError) as error:
            if not _may_have_launched(error):
                raise
            failure = error
        log.warning("the launch got no valid answer, looking for the machine: %s", failure)
        search = LaunchSearch(self.api, self.server_type, self.launched_for, self.prices)
        return search.find_fresh(before, failure)

    def _servers(self) -> frozenset[str] | None:
        """Return the ids of the existing machines; None if they cannot be listed."""
        try:
            servers = self.api.list_servers()
        except ApiError as error:
            # A limit that cannot be checked is not ignored.
            if error.status in (401, 403) or self.max_machines is not None:
                raise
            log.warning("the existing machines cannot be listed: %s", error)
            return None
        living = [server.server_id for server in servers if not server.has_ended]
        if self.max_machines is not None and len(living) >= self.max_machines:
            raise MachineLimit(
                f"the account already has {len(living)} machines ({', '.join(living)}), and "
                f"max_machines is {self.max_machines}: stop one, or raise max_machines"
            )
        return frozenset(server.server_id for server in servers)


def _may_have_launched(error: TransportError | ApiError) -> bool:
    if isinstance(error, TransportError):
        return error.sent
    # A 4xx is a refusal, except where a gateway gave up waiting, and so is the platform's own 503;
    # after a broken or unreadable answer the outcome is unknown, too.
    if error.status == _UNAVAILABLE and _is_explained(error):
        return False
    return error.status >= 500 or error.status < 400 or error.status in _GIVEN_UP


def _is_explained(error: ApiError) -> bool:
    """Return whether the platform says why, which a gateway's page does not."""
    try:
        fields = mapping(json.loads(error.body))
    except ValueError:
        return False
    return bool({"message", "error", "detail"} & fields.keys())


def with_article(server_type: str) -> str:
    """Return a machine type for a sentence: `a medium machine`, `an extra-large machine`."""
    return f"{'an' if server_type[:1] in 'aeio' else 'a'} {server_type} machine"


def announcement(server_type: str, settings: Settings) -> str:
    """Return the first line of a launch: what is launched, for which account, and who says so."""
    source = settings.sources.get("api_token", "argument")
    whose = f"account {settings.user_id} (token from {source})"
    return f"launching {with_article(server_type)} for {whose}"


def launch_first(server_types: Sequence[str], launch: Callable[[str], T]) -> T:
    """Launch the first machine type that the platform does not refuse.

    Args:
        server_types: The machine types, in order of preference.
        launch: Launches a machine of a type.

    Raises:
        ApiError: The platform refuses them all; the message names the reason for each.
    """
    refusals: list[str] = []
    for server_type in server_types:
        try:
            return launch(server_type)
        except ApiError as error:
            is_about_all = isinstance(error, Unauthorized | NotFound)
            if is_about_all or error.request != LAUNCH or _may_have_launched(error):
                raise
            refusals.append(f"{server_type}: {error}")
            if server_type == server_types[-1]:
                raise error if len(server_types) == 1 else _refused(error, refusals) from None
        log.warning("RunComfy refuses to launch a %s", refusals[-1])
    raise ValueError("no machine type")


def _refused(last: ApiError, refusals: Sequence[str]) -> ApiError:
    text = f"RunComfy refuses every machine type: {'; '.join(refusals)}"
    return type(last)(
        text, status=last.status, code=last.code, body=last.body, request=last.request
    )
