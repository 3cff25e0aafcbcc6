"""Direct calls in an event loop: awaited, cancelled in every step, and never left half done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.sandboxes import FaultySandbox, arm, only, used

from gonogo.action import Action
from gonogo.clock import FakeClock
from gonogo.context import current
from gonogo.errors import ConfigurationError, EffectFailed, OutcomeUnknown
from gonogo.evidence import landed
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Outcome, State
from gonogo.signals import NotApplied, Snooze
from gonogo.testing import Write


def declare(
    sandbox: SandboxOrchestrator, effect: Callable[[], Awaitable[Any]], **policy: Any
) -> Action[Any, Any]:
    """An async irreversible action with one key that uses a unit."""
    limits = [Limit("units", 100, per="1h")]

    @sandbox.action("pay", key="k", irreversible=True, limits=limits, **policy)
    async def pay() -> Any:
        return await effect()

    return pay


async def cancelled_in(work: Awaitable[Any], entered: asyncio.Event) -> None:
    """Start ``work``, cancel it when it is ``entered``, and expect it to stop."""
    task = asyncio.ensure_future(work)
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_an_async_action_is_awaited_and_replayed(sandbox: SandboxOrchestrator) -> None:
    """Calling gives an awaitable of the result; ``acall`` of the receipt; the context is there."""

    async def effect() -> str:
        await asyncio.sleep(0)
        return str(current().key)

    async def main() -> None:
        pay = declare(sandbox, effect)
        assert await pay() == "k"
        receipt = await pay.acall()
        assert (receipt.value, receipt.replayed) == ("k", True)
        with pytest.raises(ConfigurationError, match=r"await pay\.acall"):
            pay.call()

    asyncio.run(main())


def test_a_plain_action_is_awaited_in_a_thread(sandbox: SandboxOrchestrator) -> None:
    """``acall`` of a plain function leaves the loop free."""
    threads = []

    @sandbox.action("pay", key="k", irreversible=True)
    def pay() -> str:
        threads.append(threading.get_ident())
        return "ok"

    async def main() -> None:
        assert (await pay.acall()).value == "ok"
        assert threads != [threading.get_ident()]

    asyncio.run(main())


def test_a_plain_action_goes_on_when_its_task_is_cancelled(sandbox: SandboxOrchestrator) -> None:
    """A thread cannot be stopped: the task stops, the effect is seen through and settled."""
    leave = threading.Event()

    async def main() -> None:
        loop, entered = asyncio.get_running_loop(), asyncio.Event()

        @sandbox.action("pay", key="k", irreversible=True)
        def pay() -> str:
            loop.call_soon_threadsafe(entered.set)
            assert leave.wait(10)
            return "paid"

        await cancelled_in(pay.acall(), entered)
        assert only(sandbox).state is State.DISPATCHED
        leave.set()

    asyncio.run(main())
    assert only(sandbox).state is State.SUCCEEDED


def test_async_retries_sleep_on_the_clock(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """The same policy, the same waits."""
    acts = [NotApplied("later", retry_after=90.0), Snooze(30.0)]

    async def effect() -> str:
        if acts:
            raise acts.pop(0)
        return "ok"

    assert asyncio.run(declare(sandbox, effect)()) == "ok"
    assert fake_clock.slept == [90.0, 30.0]


def test_an_async_action_is_stopped_on_time(sandbox: SandboxOrchestrator) -> None:
    """An ``async def`` action is cancelled at its time-out; its outcome is unknown."""

    async def effect() -> None:
        await asyncio.Event().wait()

    with pytest.raises(OutcomeUnknown):
        asyncio.run(declare(sandbox, effect, timeout=0.01)())
    assert only(sandbox).state is State.UNKNOWN


def test_cancelled_in_perform(sandbox: SandboxOrchestrator) -> None:
    """A task cancelled inside the effect: unknown, key and budget kept, and it stops."""

    async def main() -> None:
        entered = asyncio.Event()

        async def effect() -> None:
            entered.set()
            await asyncio.Event().wait()

        await cancelled_in(declare(sandbox, effect)(), entered)

    asyncio.run(main())
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.UNKNOWN, Outcome.UNKNOWN, True)
    assert used(sandbox) == 1


def test_a_callers_own_timeout(sandbox: SandboxOrchestrator) -> None:
    """``asyncio.timeout`` around a call: TimeoutError to its owner, unknown in the ledger."""

    async def main() -> None:
        limit = asyncio.timeout(None)

        async def effect() -> None:
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()

        pay = declare(sandbox, effect)
        with pytest.raises(TimeoutError):
            async with limit:
                await pay()

    asyncio.run(main())
    assert only(sandbox).state is State.UNKNOWN


class Gate:
    """A ledger whose next write of a kind waits, and says when it does."""

    def __init__(self, sandbox: FaultySandbox, durable: bool) -> None:
        self.entered = asyncio.Event()
        self.open = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._durable = durable
        sandbox.faulty.before_write = self._wait

    def _wait(self, write: Write) -> None:
        if write.durable is self._durable and not self.open.is_set():
            self._loop.call_soon_threadsafe(self.entered.set)
            assert self.open.wait(10)


@pytest.fixture
def on_disk(tmp_path: Any, fake_clock: FakeClock) -> FaultySandbox:
    url = f"sqlite:///{tmp_path}/ledger.db"
    made = FaultySandbox(url, clock=fake_clock, random=lambda: 0.5)
    arm(made)
    return made


async def cancelled_at(gate: Gate, work: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(work)
    await gate.entered.wait()
    for _ in range(3):  # a shutdown may cancel more than once
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()  # it sees the step to its end
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancelled_in_admit(on_disk: FaultySandbox) -> None:
    """A task cancelled while ``dispatched`` is committed: withdrawn, unperformed, nothing used."""
    ran = []

    async def effect() -> None:
        ran.append(1)

    async def main() -> None:
        pay = declare(on_disk, effect)
        await cancelled_at(Gate(on_disk, durable=True), pay())

    asyncio.run(main())
    call = only(on_disk)
    assert (call.state, call.held, used(on_disk), ran) == (State.CANCELLED, False, 0, [])
    on_disk.cleanup()


def test_cancelled_in_settle(on_disk: FaultySandbox) -> None:
    """A task cancelled while its success is written: it is written, then the task stops."""

    async def effect() -> str:
        return "paid"

    async def main() -> None:
        pay = declare(on_disk, effect)
        await cancelled_at(Gate(on_disk, durable=False), pay())
        on_disk.faulty.heal()
        receipt = await pay.acall()
        assert (receipt.value, receipt.replayed) == ("paid", True)

    asyncio.run(main())
    assert only(on_disk).state is State.SUCCEEDED
    on_disk.cleanup()


def test_cancelled_before_a_retry(on_disk: FaultySandbox) -> None:
    """A task cancelled while its refusal is written does not come back: withdrawn, key free."""

    async def effect() -> None:
        raise NotApplied

    async def main() -> None:
        pay = declare(on_disk, effect)
        await cancelled_at(Gate(on_disk, durable=False), pay())

    asyncio.run(main())
    call = only(on_disk)
    assert (call.state, call.outcome, call.held) == (State.FAILED, Outcome.NOT_APPLIED, False)
    assert used(on_disk) == 0
    on_disk.cleanup()


def test_cancelled_while_it_waits_for_a_retry(
    sandbox: SandboxOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same when it sleeps between attempts."""

    async def effect() -> None:
        raise NotApplied

    async def main() -> None:
        entered = asyncio.Event()

        async def asleep(seconds: float) -> None:
            entered.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(sandbox.clock, "asleep", asleep)
        await cancelled_in(declare(sandbox, effect)(), entered)

    asyncio.run(main())
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.FAILED, Outcome.NOT_APPLIED, False)
    assert used(sandbox) == 0


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_a_stop_inside_an_async_effect(
    sandbox: SandboxOrchestrator, stop: type[BaseException]
) -> None:
    """SystemExit and Ctrl-C are settled as unknown before they end the program."""

    async def effect() -> None:
        raise stop

    with pytest.raises(stop):
        asyncio.run(declare(sandbox, effect)())
    assert only(sandbox).state is State.UNKNOWN


def test_a_coroutine_thrown_away_is_found(fake_clock: FakeClock) -> None:
    """A coroutine that is closed in the middle of the effect is as dead as a process: unknown."""
    sandbox = arm(SandboxOrchestrator(clock=fake_clock))

    class Suspended:
        """An awaitable that suspends once."""

        def __await__(self) -> Any:
            yield

    async def effect() -> None:
        await Suspended()

    async def main() -> None:
        work = declare(sandbox, effect)()
        work.send(None)
        work.close()

    asyncio.run(main())
    assert only(sandbox).state is State.DISPATCHED
    fake_clock.advance(60.0)
    sandbox.recovery.run_once()
    assert only(sandbox).state is State.UNKNOWN


def test_a_verifier_does_not_block_the_loop(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """While a verifier is asked the loop goes on."""

    async def effect() -> None:
        raise TimeoutError

    async def main() -> None:
        loop, asked, answer = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        pay = declare(sandbox, effect)

        @pay.verify
        def look(call: Any) -> Any:
            loop.call_soon_threadsafe(asked.set)
            assert answer.wait(10)
            return landed("paid")

        with pytest.raises(OutcomeUnknown):
            await pay()
        task = asyncio.ensure_future(pay())
        await asked.wait()
        answer.set()
        assert await task == "paid"

    asyncio.run(main())


def test_many_tasks_one_effect(sandbox: SandboxOrchestrator) -> None:
    """Twenty tasks with one key: one effect; who came too early is told so."""
    ran = []

    async def main() -> list[Any]:
        async def effect() -> str:
            ran.append(1)
            await asyncio.sleep(0)
            return "ok"

        pay = declare(sandbox, effect)
        return await asyncio.gather(*(pay() for _ in range(20)), return_exceptions=True)

    said = asyncio.run(main())
    assert len(ran) == 1
    assert "ok" in said
    assert {type(s).__name__ for s in said} <= {"str", "InFlight"}


def test_async_actions_in_a_worker(sandbox: SandboxOrchestrator) -> None:
    """A queued ``async def`` action is run to its end by the worker."""

    async def effect() -> str:
        await asyncio.sleep(0)
        return "ok"

    handle = declare(sandbox, effect).enqueue()
    assert sandbox.worker.run_once()
    assert handle.result(timeout=0) == "ok"


def test_an_async_failure_is_an_error(sandbox: SandboxOrchestrator) -> None:
    """Errors are the same as those of a plain call."""

    async def effect() -> None:
        raise ConnectionRefusedError

    with pytest.raises(EffectFailed):
        asyncio.run(declare(sandbox, effect)())
