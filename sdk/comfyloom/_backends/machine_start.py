"""Getting a machine for a session: the dev server if it fits, else a new one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from comfyloom._backends.session_machines import SessionMachines
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._dev.borrow import Refusal, borrow
from comfyloom._dev.record import DevRecord
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.heartbeat import HEARTBEAT
from comfyloom._machines.launch import announcement, launch_first, with_article
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._money.prices import PriceList
from comfyloom._records.tracker import MachineTracker, NullTracker
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.versions import find_version
from comfyloom._workflow.compatibility import compare_workflow
from comfyloom._workflow.node_schemas import Schemas
from comfyloom.errors import (
    ApiError,
    ConfigError,
    LedgerError,
    MachineError,
    TransportError,
)
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._workflow.workflow import Workflow


@attrs.define(eq=False, kw_only=True)
class MachineStart:
    """Gets a machine and its ComfyUI; made for one `run`.

    Args:
        machines: Where it is added.
        workflow: What will run on it, None if that is not known.
        is_real: Whether machines outlive this process; those of its own emulator do not.
        may_launch: Whether to launch a machine when there is no dev server to use.
        reap: Called before a launch, and after the dev server was taken: stops orphaned machines.
    """

    settings: Settings
    api: ServerApi
    machines: SessionMachines
    workflow: type[Workflow[Any]] | None
    is_real: bool
    may_launch: bool
    reap: Callable[[float], object]
    _launched: LaunchedMachine | None = attrs.field(default=None, init=False)
    _is_wanted: bool = attrs.field(default=True, init=False)

    def run(self, report: ProgressCallback) -> ComfyUI:
        """Return the ComfyUI of a machine.

        Raises:
            MachineError: There is none.
            ConfigError: It is unclear which workflow version to launch.
            ApiError: The platform refuses.
        """
        if (still_there := self._still_there()) is not None:
            return still_there
        if self.is_real and (borrowed := self._borrow(report)) is not None:
            self.reap(0.0)
            return borrowed
        version = self._version()
        # Orphaned machines count for `max_machines`, so wait a little for their stop.
        self.reap(self.api.timeouts.reap_wait_s)
        machine = launch_first(self.settings.server_type, partial(self._launch, version, report))
        try:
            return machine.await_ready(report)
        except BaseException:
            machine.stop()
            raise

    def abandon(self) -> None:
        """Stop the machine that is being launched, if any; called by another thread."""
        self._is_wanted = False
        if (launched := self._launched) is not None:
            launched.stop()

    def _still_there(self) -> ComfyUI | None:
        """Return the ComfyUI of the machine in use, None if there is none, or it is gone.

        One that does not answer is waited for until it counts as silent, unless it is busy.
        """
        machine = self.machines.current
        if machine is None or (comfyui := machine.comfyui) is None:
            return None
        timeouts = self.api.timeouts
        deadline = Deadline.after(timeouts.silent_machine_s, self.api.clock)
        for _ in polling(timeouts.probe_s, deadline):
            try:
                comfyui.system_stats(backoff=NO_RETRY, timeout_s=timeouts.probe_s)
            except (TransportError, ApiError):
                if (end := self.machines.end_of(comfyui)) is not None:
                    log.warning("%s; using another", end)
                    return None
                if self._is_wanted and not machine.is_busy:
                    continue
            break
        return comfyui

    def _borrow(self, report: ProgressCallback) -> ComfyUI | None:
        """Return the ComfyUI of the dev server, None if a machine must be launched."""
        record = DevRecord.of(self.settings, self.api, report)
        try:
            found = borrow(record, self._why_unfit, lambda: self._is_wanted)
        except LedgerError as error:
            if not self.may_launch:
                raise
            found = Refusal(reason=str(error), unexpected=True)
        if isinstance(found, Refusal):
            self._refused(found)
            return None
        self.machines.add(found)
        report(Progress(kind="machine", message=f"using the dev server {found.server_id}"))
        return found.comfyui

    def _why_unfit(self, version: str, comfyui: ComfyUI | None) -> str:
        """Return why a dev server that was launched with a version cannot be used, "" if it can."""
        wanted = self.settings.workflow_version_id
        if wanted is not None:
            is_other = version != wanted
            return "the dev server was launched with another workflow version" if is_other else ""
        if comfyui is None or self.workflow is None or version == self._named_version():
            return ""
        found = compare_workflow(self.workflow, Schemas(comfyui.object_info()))
        fatal = next((each for each in found if each.is_fatal), None)
        return "" if fatal is None else f"the workflow cannot run on the dev server: {fatal}"

    def _named_version(self) -> str:
        """Return the version of the account's workflow of the right name, "" if there is none."""
        try:
            return self._version()
        except ConfigError:
            return ""

    def _refused(self, refusal: Refusal) -> None:
        if not self.may_launch:
            advice = f": {refusal.advice}" if refusal.advice else ""
            raise MachineError(f"no machine to run on: {refusal.reason}{advice}")
        if refusal.unexpected:
            log.warning("%s; launching another machine", refusal.reason)
        else:
            log.info("%s", refusal.reason)

    def _version(self) -> str:
        if (version := self.settings.workflow_version_id) is not None:
            return version
        if self.workflow is None:
            raise ConfigError("which workflow? Name one, or set RUNCOMFY_WORKFLOW_VERSION_ID")
        return find_version(self.api, self.workflow.__workflow__.saved_name)

    def _launch(self, version: str, report: ProgressCallback, server_type: str) -> LaunchedMachine:
        settings = self.settings
        self._launched = machine = LaunchedMachine(
            self.api,
            server_type,
            prices=PriceList.of(settings),
            longest_s=settings.max_duration_s,
            max_machines=settings.max_machines,
            idle_timeout_s=settings.idle_timeout_s,
            ready_grace_s=settings.ready_grace_s,
            tracker=self._tracker(server_type, version),
        )
        self.machines.add(machine)
        if not self._is_wanted:
            raise MachineError("the machine is not wanted any more")
        text = f"launching {with_article(server_type)}"  # one of our own process has no account
        text = announcement(server_type, settings) if self.is_real else text
        report(Progress(kind="machine", message=text))
        HEARTBEAT.add(machine.beat)
        try:
            machine.launch(version)
        except BaseException:
            machine.stop()
            raise
        return machine

    def _tracker(self, server_type: str, version: str) -> NullTracker:
        if not self.is_real:
            return NullTracker()
        return MachineTracker(
            api=self.api,
            settings=self.settings,
            purpose="session",
            server_type=server_type,
            workflow_version=version,
        )
