"""Release from the quarantine by the running daemon, over its own destinations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from mailferry.assembly.control import ControlParts, DaemonControl
from mailferry.config.models import Settings
from mailferry.errors import ControlError, QuarantineError, StoreError
from mailferry.ledger.writer import open_writer
from mailferry.model import DeliveryRecord, DestinationName
from mailferry.ports import Destination
from mailferry.quarantine.naming import is_name
from mailferry.quarantine.redelivery import Answer, Answered, Redelivery, Retried
from mailferry.quarantine.store import quarantine_in

WAIT_SECONDS = 10.0
"""How long somebody waits for the end of a release; it goes on without them."""

_WORDS = {
    Answer.ACCEPTED: "accepted",
    Answer.REFUSED: "refused again",
    Answer.DEFERRED: "not now",
    Answer.IN_DOUBT: "in doubt (it may have it; another release may double it)",
    Answer.NOT_REACHED: "not reached",
    Answer.UNKNOWN: "not tried",
}


class PageControl(DaemonControl):
    """What the status page can have done: what the control socket can, and releases."""

    def __init__(self, parts: ControlParts) -> None:
        super().__init__(parts)
        self._settings: Callable[[], Settings] = parts.settings
        self._destinations: Mapping[DestinationName, Destination] = parts.around.destinations
        self._stopping: Callable[[], bool] = lambda: parts.supervisor.stopping
        self._under_way: dict[str, asyncio.Task[str]] = {}

    async def release(self, name: str) -> str:
        """See `web.page.model.PageOperations`."""
        if not is_name(name):
            raise ControlError("there is no such message in the quarantine")
        if self._stopping():
            raise ControlError("the daemon is stopping")
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._release(name), name=f"release {name}")
            self._under_way[name] = task
            task.add_done_callback(lambda _task: self._under_way.pop(name, None))
        done, _ = await asyncio.wait({task}, timeout=WAIT_SECONDS)
        return task.result() if done else "It is still on its way; look again in a minute."

    async def close(self, seconds: float) -> None:
        """Wait for releases under way; their destinations have been drained, so this is quick."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(set(self._under_way.values()), timeout=seconds)
        for task in late:
            task.cancel()

    async def _release(self, name: str) -> str:
        settings = self._settings()
        store = quarantine_in(settings.daemon.state_dir)
        redelivery = Redelivery(store, self._destinations, memory_octets=settings.daemon.spool_threshold)
        with ExitStack() as lock:
            await asyncio.to_thread(lock.enter_context, store.exclusive())
            stored = await asyncio.to_thread(store.get, name)
            retried = await redelivery.retry(stored)
        problem = await asyncio.to_thread(_tell_ledger, settings.ledger_url, retried.accepted)
        return _told(retried) + problem


def _tell_ledger(url: str, accepted: tuple[DeliveryRecord, ...]) -> str:
    """Write down what was accepted, so that the message's story knows; return what went wrong."""
    if not accepted:
        return ""
    try:
        with open_writer(url) as ledger:
            ledger.record(accepted)
    except StoreError as error:
        return f" The ledger could not be told: {error}"
    return ""


def _told(retried: Retried) -> str:
    if retried.problem:
        raise QuarantineError(retried.problem)
    answers = "; ".join(_words(each) for each in retried.answers)
    if retried.removed:
        return f"Released: {answers or 'it had been delivered before'}."
    raise QuarantineError(f"it stays in the quarantine: {answers}")


def _words(answered: Answered) -> str:
    return f"{answered.destination}: {_WORDS[answered.answer]}, {answered.words}"
