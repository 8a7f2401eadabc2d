"""A decider on a timeline: real vantages, real surfaces, wall time told as the time of a script.

The very loop of a live run. Only the clock differs, so that an outage of hours is rehearsed in minutes with
the policy unchanged.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from polycdn.decide.step import step
from polycdn.errors import UnavailableError
from polycdn.run.clock import Script
from polycdn.run.decider_spec import DeciderSpec
from polycdn.run.live import Decider
from polycdn.run.loop import Step

READY_S_MAX = 30


@asynccontextmanager
async def drill(spec: DeciderSpec, clock: Script, decide: Step = step) -> AsyncIterator[Decider]:
    """A decider that runs in this process until the block ends; ready when it begins.

    Raises PolycdnError when it cannot start, or when it ended before its time.
    """
    decider = Decider(spec, clock, decide)
    running = asyncio.create_task(decider.run())
    try:
        await _until_ready(spec, running)
        yield decider
    finally:
        decider.stop()
        await running


async def run_until(spec: DeciderSpec, clock: Script, until_ms: int, decide: Step = step) -> Decider:
    """A decider from now until the timeline is at `until_ms`; its loop has the states and reports."""
    async with drill(spec, clock, decide) as decider:
        await clock.sleep_until(until_ms)
    return decider


async def _until_ready(spec: DeciderSpec, running: asyncio.Task[None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S_MAX):
            while not running.done() and not (spec.ready_file and Path(spec.ready_file).exists()):
                await asyncio.sleep(0.01)
            if running.done():
                running.result()
            return
    raise UnavailableError(f"the decider was not ready after {READY_S_MAX} s")
