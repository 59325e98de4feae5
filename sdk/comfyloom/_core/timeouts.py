"""Every time limit and interval of the SDK, in one value."""

from __future__ import annotations

import attrs


def _by_difference(value: attrs.AttrsInstance) -> str:
    """Return the repr of a value with many fields: only what differs from its default."""
    fields = attrs.fields(type(value))
    values = [(field, getattr(value, field.name)) for field in fields]
    shown = [f"{field.name}={each!r}" for field, each in values if each != field.default]
    return f"{type(value).__name__}({', '.join(shown)})"


@attrs.frozen(kw_only=True, repr=False)
class PollIntervals:
    """How often a run is polled, in seconds.

    Attributes:
        flowing_s: While events arrive.
        stopped_s: Without an event for this long, they no longer arrive.
        quick_s: Without events, during the first `quick_for_s` of a run.
        quick_for_s: How long that lasts.
        slowest_share: Afterwards, the interval as a share of the elapsed time.
        slow_s: Its lower bound; also used for a queued run while the event socket is connected.
        slowest_s: Its upper bound.
        queue_s: Between two reads of the queue, which distinguish a lost run from a waiting one.
        queue_bytes_s: Bytes per second that reading the queue may cost: each read has the graphs of
            all prompts in it.
        settle_s: Once an event said that the run has ended but history lacks it.
        settle_for_s: How long that lasts at most.
        silent_s: Silence after which a run is reported as silent; again when it has doubled.
        cancel_s: Between attempts to cancel.
        cancel_for_s: How long cancelling is repeated at most.
        alive_s: Between checks whether an unreachable server still exists.
        give_up_s: How long a server may be unreachable.
    """

    flowing_s: float = 5.0
    stopped_s: float = 2.0
    quick_s: float = 0.25
    quick_for_s: float = 10.0
    slowest_share: float = 0.03
    slow_s: float = 0.7
    slowest_s: float = 4.0
    queue_s: float = 1.5
    queue_bytes_s: float = 50_000.0
    settle_s: float = 0.02
    settle_for_s: float = 1.5
    silent_s: float = 30.0
    cancel_s: float = 0.5
    cancel_for_s: float = 3.0
    alive_s: float = 5.0
    give_up_s: float = 60.0

    def __repr__(self) -> str:
        return _by_difference(self)


@attrs.frozen(kw_only=True, repr=False)
class Timeouts:
    """Every time limit and interval, in seconds; change single values by keyword.

    Attributes:
        connect_s: To open a connection.
        answer_s: Longest silence of a server, where nothing below applies. The headers of an answer
            must be complete in the same time, and a small body in as much again.
        large_s: For a body that may have graphs, if it keeps coming.
        poll_s: Longest silence of ComfyUI on a question about its queue, history or state.
        submit_s: The same while it validates a graph, which includes listing model folders.
        upload_s: The same while it receives a file.
        download_s: The same while it sends one.
        cancel_s: The same while it cancels; cancelling is repeated.
        ping_s: Silence of the event socket before a ping; after as much again it is reconnected.
        polling: How often a run is polled.
        lookup_every_s: Between two look-ups of a prompt whose submission got no answer.
        lookup_for_s: How long they continue while the server does not answer them.
        busy_lookup_s: Shortest look-up after a 503: some gateways deliver the request anyway.
        withdraw_s: How long an unwanted prompt is cancelled until it is gone.
        withdraw_every_s: Between two such attempts.
        run_cancel_s: How long a run's thread may take to cancel it before the caller does.
        leave_cancel_s: How long a caller that leaves waits for a cancel to be confirmed.
        turn_s: Between two looks, of a run that waits for its turn, whether it was cancelled.
        last_look_s: Shortest wait for an answer, also when the run's deadline is nearer.
        status_s: For RunComfy to describe or stop a machine.
        renew_s: For RunComfy to change a lease.
        launch_search_s: How long the machine of an unanswered launch is looked for.
        launch_search_every_s: Between two listings of the machines in that search.
        launch_answer_s: How long a stop waits for the answer to a launch under way.
        start_s: For a machine to become ready.
        start_poll_s: Between two polls of a starting machine; billing begins with Ready.
        fresh_s: Age of a machine's last sign of life up to which a run does not probe it first.
        probe_s: For its ComfyUI to answer such a probe, and for all of `availability`.
        availability_s: How long an answer of `availability` counts.
        ask_every_s: Between two questions to the platform whether a troubled machine still exists.
        silent_machine_s: Silence after which a machine that answered before is given up, unless a
            prompt is known to run on it.
        young_s: How long after its launch the platform may not list a machine.
        stop_s: For a stop to be confirmed.
        guarded_stop_s: The same where a guard process continues afterwards.
        stop_retry_s: Between two attempts to stop.
        reap_stop_s: How long a starting session tries to stop a machine that another process left.
        reap_wait_s: How long a launch waits for such stops.
        record_s: Between two heartbeats in the ledger.
        lease_retry_s: Between two attempts to renew a lease.
        sleep_gap_s: How far the clocks may drift apart before the computer must have slept.
        abandoned_stop_s: Age of an unconfirmed stop after which its process counts as dead.
        settling_s: How long a living process may take to name its launch in the state file.
        dev_check_s: How long an unanswered status check of the dev server is repeated.
        dev_probe_every_s: Between two attempts to reach its ComfyUI.
        dev_status_every_s: Between two status checks while it is watched.
        dev_queue_every_s: Between two reads of its queue while it is watched.
        dev_emulator_s: For an emulator on this computer to answer.
        dev_lock_s: How long a status check waits for a lock; it then reports without recording.
        lock_s: How long another process may hold a lock; an unanswered launch takes 2 minutes.
        lock_notice_s: How long a lock is waited for before the user is notified.
        ledger_busy_s: How long another process may write to the ledger.
    """

    connect_s: float = 5.0
    answer_s: float = 60.0
    large_s: float = 600.0

    poll_s: float = 10.0
    submit_s: float = 60.0
    upload_s: float = 60.0
    download_s: float = 60.0
    cancel_s: float = 2.0
    ping_s: float = 10.0
    polling: PollIntervals = PollIntervals()
    lookup_every_s: float = 1.0
    lookup_for_s: float = 60.0
    busy_lookup_s: float = 5.0
    withdraw_s: float = 3.0
    withdraw_every_s: float = 0.25
    run_cancel_s: float = 1.0
    leave_cancel_s: float = 3.5
    turn_s: float = 0.2
    last_look_s: float = 1.0

    status_s: float = 15.0
    renew_s: float = 10.0
    launch_search_s: float = 60.0
    launch_search_every_s: float = 2.0
    launch_answer_s: float = 5.0
    start_s: float = 1800.0
    start_poll_s: float = 2.0
    fresh_s: float = 30.0
    probe_s: float = 2.0
    availability_s: float = 10.0
    ask_every_s: float = 5.0
    silent_machine_s: float = 15.0
    young_s: float = 60.0
    stop_s: float = 120.0
    guarded_stop_s: float = 5.0
    stop_retry_s: float = 2.0
    reap_stop_s: float = 10.0
    reap_wait_s: float = 15.0
    record_s: float = 60.0
    lease_retry_s: float = 30.0
    sleep_gap_s: float = 30.0
    abandoned_stop_s: float = 60.0
    settling_s: float = 600.0

    dev_check_s: float = 15.0
    dev_probe_every_s: float = 2.0
    dev_status_every_s: float = 15.0
    dev_queue_every_s: float = 1.0
    dev_emulator_s: float = 5.0
    dev_lock_s: float = 1.0
    lock_s: float = 180.0
    lock_notice_s: float = 0.2
    ledger_busy_s: float = 15.0

    def __repr__(self) -> str:
        return _by_difference(self)


DEFAULT_TIMEOUTS = Timeouts()
