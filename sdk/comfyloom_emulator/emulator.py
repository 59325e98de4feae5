"""The emulator's public class: starts, inspects and stops it."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from comfyloom_emulator.clock import EmulatorClock, TimeMode
from comfyloom_emulator.comfyui.server_registry import LOCAL
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import SERVER_TYPES, Options
from comfyloom_emulator.server.thread import ServerThread, listen
from comfyloom_emulator.simulation import Simulation

T = TypeVar("T")


class Emulator:
    """RunComfy's Server API and the ComfyUI of each machine, on one port of the loopback interface.

    Use it as a context manager, or call `start` and `close`. No data leaves this computer and
    nothing costs money. Runs of the flux-mesh workflow really produce an image and a mesh.

    Args:
        time: `immediate`: waits are skipped and the clock jumps ahead by their length, so bills
            and leases look as if the time had passed; a machine is Starting in the first status
            answer and Ready in the next. `manual`: time moves only by `clock.advance`. `real`:
            the wall clock.
        startup_s: Seconds from launch to Ready.
        run_s: Seconds that a flux-mesh run takes when nothing is cached; each node type takes a
            fixed share of it, in other graphs too.
        node_seconds: Seconds by node type, in place of that share.
        comfyui_delay_s: Seconds from Ready until the machine's ComfyUI answers; 502 until then.
        history_delay_s: Real seconds between the event `execution_success` and the history entry.
        port: TCP port; 0 chooses a free one.
        rate_limit: Requests per second, and burst, that the Server API allows an account, by the
            emulator's time; None for no limit.
        retry_after_s: The `Retry-After` header of a 429 answer; None to send none.
        server_types: Machine types that can be launched.
        expire_leases: Whether a machine stops at `estimated_stopping_at`. None: yes, except in
            `immediate` time, whose jumps use up leases faster than a client can renew them.
        date_skew_s: Seconds by which the `Date` header of all answers is ahead of the clock.
        comfyui_version: The version in /system_stats. From 0.4 on, ComfyUI describes jobs
            (GET /api/jobs); from 0.9 on it behaves like the servers of autumn 2026: it cancels
            jobs, takes canonical prompt ids only, gives creation times, shows no secrets in the
            queue, and has assets in upload replies.
        previews: Whether samplers send preview images, as with `--preview-method auto`.
        monitor_events: Whether `crystools.monitor` events are sent, as by packs on real machines.
        object_info: Additional node types, or other schemas for known ones, in the form of
            /object_info. A node type without behaviour returns placeholders of its declared
            output types.
        nodes: Behaviour of node types, by `class_type`.
        token: The account's token; random if None.
        user_id: The account's user id; random if None.
        workflow_version_id: Version id of the account's first workflow; random if None.
        workflow_names: Names of the account's workflows.

    Raises:
        ValueError, TypeError: An option has a wrong value.
    """

    def __init__(
        self,
        *,
        time: TimeMode = "immediate",
        startup_s: float = 150.0,
        run_s: float = 200.0,
        node_seconds: Mapping[str, float] | None = None,
        comfyui_delay_s: float = 0.0,
        history_delay_s: float = 0.001,
        port: int = 0,
        rate_limit: tuple[float, int] | None = (1.0, 10),
        retry_after_s: int | None = None,
        server_types: Sequence[str] = SERVER_TYPES,
        expire_leases: bool | None = None,
        date_skew_s: float = 0.0,
        comfyui_version: str = "0.3.64",
        previews: bool = True,
        monitor_events: bool = False,
        object_info: Mapping[str, Any] | None = None,
        nodes: Mapping[str, Node] | None = None,
        token: str | None = None,
        user_id: str | None = None,
        workflow_version_id: str | None = None,
        workflow_names: Sequence[str] = ("generate_flux_mesh",),
    ) -> None:
        identity = {"token": token, "user_id": user_id, "workflow_version_id": workflow_version_id}
        self._options = Options(
            time=time,
            startup_s=startup_s,
            run_s=run_s,
            node_seconds=dict(node_seconds or {}),
            comfyui_delay_s=comfyui_delay_s,
            history_delay_s=history_delay_s,
            port=port,
            rate_limit=rate_limit,
            retry_after_s=retry_after_s,
            server_types=tuple(server_types),
            expire_leases=time != "immediate" if expire_leases is None else expire_leases,
            date_skew_s=date_skew_s,
            comfyui_version=comfyui_version,
            previews=previews,
            monitor_events=monitor_events,
            object_info=dict(object_info or {}),
            nodes=dict(nodes or {}),
            workflow_names=tuple(workflow_names),
            **{key: value for key, value in identity.items() if value is not None},
        )
        self._simulation = Simulation(self._options)
        self._thread: ServerThread | None = None
        self._owner = os.getpid()
        self._remove_files: Callable[[], object] = lambda: None
        self._base_url = ""

    def __enter__(self) -> Self:
        return self.start() if self._thread is None else self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The address of the Server API.

        Raises:
            RuntimeError: The emulator has never been started.
        """
        if not self._base_url:
            raise RuntimeError("the emulator has not been started")
        return self._base_url

    @property
    def comfyui_url(self) -> str:
        """The address of a plain ComfyUI, which has no machine and is never billed."""
        return f"{self.base_url}/comfyui/{LOCAL}"

    @property
    def token(self) -> str:
        """The account's token."""
        return self._options.token

    @property
    def user_id(self) -> str:
        """The account's user id."""
        return self._options.user_id

    @property
    def workflow_version_id(self) -> str:
        """Version id of the account's first workflow; a launch needs it."""
        return self._options.workflow_version_id

    @property
    def clock(self) -> EmulatorClock:
        """The emulator's clock: `now()`, and `advance()` if it is a `ManualClock`."""
        return self._simulation.clock

    @property
    def faults(self) -> FaultQueue:
        """The scripted faults; `add` new ones here."""
        return self._simulation.faults

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a RunComfy client to this emulator."""
        return {
            "RUNCOMFY_API_TOKEN": self.token,
            "RUNCOMFY_USER_ID": self.user_id,
            **dict.fromkeys(("RUNCOMFY_API_BASE_URL", "RUNCOMFY_WEB_BASE"), self.base_url),
            "RUNCOMFY_WORKFLOW_VERSION_ID": self.workflow_version_id,
        }

    def start(self) -> Self:
        """Start the server; returns when requests are accepted.

        Raises:
            RuntimeError: It is running already, or the server could not start.
            OSError: The port is taken or not allowed.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        listener = listen(self._options.port)
        self._base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._files = files = Path(tempfile.mkdtemp(prefix="comfyloom-emulator-"))
        self._owner = os.getpid()
        self._remove_files = weakref.finalize(self, _remove, files, self._owner)
        application = self._simulation.application(self._base_url, files)
        attach, end = self._simulation.clock.attach, self._simulation.end
        self._thread = ServerThread(application, listener, attach, end)
        try:
            self._thread.start()
        except RuntimeError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close all connections and remove all files; `state` stays readable."""
        if os.getpid() != self._owner:
            return  # a forked child has neither the server nor its files
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        self._remove_files()

    def state(self) -> dict[str, Any]:
        """Return what happened so far: machines with billed seconds, requests, prompts."""
        return self._call(self._simulation.state)

    def launch_foreign(self, server_type: str = "medium", estimated_duration: int = 3600) -> str:
        """Launch a machine as another user of the account would, and return its id.

        Args:
            server_type: The machine type.
            estimated_duration: The lease in seconds, 1 or more.

        Raises:
            ValueError: The type is unknown, or the duration is not positive.
        """
        return self._call(lambda: self._simulation.launch_foreign(server_type, estimated_duration))

    def steal(self, server_id: str) -> None:
        """Stop a machine as another user of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        self._call(lambda: self._simulation.steal(server_id))

    def reset(self) -> None:
        """Remove all machines, requests, prompts and faults; the clock keeps its time."""
        self._call(self._simulation.reset)

    def _call(self, function: Callable[[], T]) -> T:
        if self._thread is None:
            return function()
        if os.getpid() != self._owner:
            raise RuntimeError("this emulator runs in the process that this one was forked from")
        return self._thread.call(function)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
