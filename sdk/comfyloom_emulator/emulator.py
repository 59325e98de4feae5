"""The face of the emulator: one object that starts, tells and stops it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from comfyloom_emulator.clock import Clock, TimeMode
from comfyloom_emulator.comfyui.server_registry import LOCAL
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import SERVER_TYPES, Options
from comfyloom_emulator.server.thread import ServerThread, listen
from comfyloom_emulator.simulation import World

T = TypeVar("T")


class Emulator:
    """RunComfy's Server API and the ComfyUI of each machine, on one port of the loopback interface.

    Use it as a context manager, or call `start` and `close`. Nothing leaves this computer and
    nothing costs money; runs of the flux-mesh workflow really give a picture and a mesh.

    Args:
        time: `immediate`: waits end at once and the clock jumps ahead by them, so that bills and
            leases look as if they had been waited for; a machine is Starting in the first status
            answer and Ready in the next. `manual`: time moves only by `clock.advance`. `real`:
            the wall clock.
        startup_s: Seconds from launch to Ready.
        run_s: Seconds that a flux-mesh run takes when nothing is cached; nodes of other graphs
            take the same shares of it.
        node_seconds: Seconds by class type, for nodes that shall take another time.
        comfyui_delay_s: Seconds from Ready until the machine's ComfyUI answers; 502 until then.
        history_delay_s: Real seconds between the event `execution_success` and the history entry.
        port: TCP port; 0 chooses a free one.
        rate_limit: Requests per second and burst that the Server API lets an account make, by the
            emulator's time; None for no limit.
        retry_after_s: The `Retry-After` header of a 429 answer; none when None.
        server_types: Machine types that can be launched.
        expire_leases: Whether a machine ends by itself at `estimated_stopping_at`. None: yes,
            but not in `immediate` time, whose jumps use up leases faster than a client can renew
            them.
        date_skew_s: So far the `Date` header of all answers is ahead of the emulator's clock.
        comfyui_version: What /system_stats says. From 0.4 on the ComfyUI behaves as the servers
            of autumn 2026: jobs API, canonical prompt ids only, creation times, no secrets in the
            queue, assets in upload replies.
        previews: Whether samplers send preview pictures, as with `--preview-method auto`.
        monitor_events: Whether foreign `crystools.monitor` events are sent in between, as the
            preinstalled node packs of real machines do.
        object_info: More node classes, or other schemas for known ones, as /object_info has them.
            A class without behaviour gives placeholders of its declared output types.
        nodes: Behaviour of node classes, by class type.
        token: The account's token; random when None.
        user_id: The account's user id; random when None.
        workflow_version_id: Version id of the account's first workflow; random when None.
        workflow_names: Names of the account's workflows.

    Raises:
        ValueError, TypeError: An option is out of range.
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
        identity = {
            "token": token,
            "user_id": user_id,
            "workflow_version_id": workflow_version_id,
        }
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
        self._world = World(self._options)
        self._thread: ServerThread | None = None
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._base_url = ""

    def __enter__(self) -> Self:
        return self.start() if self._thread is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where the Server API is.

        Raises:
            RuntimeError: The emulator has never been started.
        """
        if not self._base_url:
            raise RuntimeError("the emulator has not been started")
        return self._base_url

    @property
    def comfyui_url(self) -> str:
        """A plain ComfyUI that is no machine and is never billed."""
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
        """Version id of the account's first workflow, which is what a launch needs."""
        return self._options.workflow_version_id

    @property
    def clock(self) -> Clock:
        """The emulator's time: `now`, and `advance` if it is a `ManualClock`."""
        return self._world.clock

    @property
    def faults(self) -> FaultBook:
        """Scripted faults: `add` them here."""
        return self._world.faults

    def environment(self) -> dict[str, str]:
        """The environment variables that lead a RunComfy client here."""
        return {
            "RUNCOMFY_API_TOKEN": self.token,
            "RUNCOMFY_USER_ID": self.user_id,
            "RUNCOMFY_API_BASE_URL": self.base_url,
            "RUNCOMFY_WORKFLOW_VERSION_ID": self.workflow_version_id,
        }

    def start(self) -> Self:
        """Begin to answer; returns when requests are accepted.

        Raises:
            RuntimeError: It runs already, or the server could not start.
            OSError: The port is taken or not allowed.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        listener = listen(self._options.port)
        self._base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._files = tempfile.TemporaryDirectory(prefix="comfyloom-emulator-")
        application = self._world.application(self._base_url, Path(self._files.name))
        thread = ServerThread(application, listener, self._world.clock.attach, self._world.end)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Break all connections off and remove all files; the state stays readable."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    def state(self) -> dict[str, Any]:
        """What has happened so far: machines with their bill, requests, prompts."""
        return self._call(self._world.state)

    def launch_foreign(self, server_type: str = "medium", estimated_duration: int = 3600) -> str:
        """Launch a machine as somebody else of the account would, and return its id.

        Raises:
            ValueError: There is no such type, or the duration is none.
        """
        return self._call(lambda: self._world.launch_foreign(server_type, estimated_duration))

    def steal(self, server_id: str) -> None:
        """End a machine as somebody else of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        self._call(lambda: self._world.steal(server_id))

    def reset(self) -> None:
        """Forget machines, requests, prompts and faults; the clock goes on."""
        self._call(self._world.reset)

    def _call(self, function: Callable[[], T]) -> T:
        return function() if self._thread is None else self._thread.call(function)
