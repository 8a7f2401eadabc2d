"""What runs on a state directory: shown, or ended."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from polycdn.errors import SurfaceError, UnavailableError
from polycdn.run.layout import Layout
from polycdn.run.process import Identity, read_pid
from polycdn.surface.control import call

UP: Final = "up"
STOP_S_MAX: Final = 20.0


async def down(layout: Layout) -> tuple[str, ...]:
    """Ends everything that runs on this state directory; gives the names of what it ended, in order.

    `up` first, so that it starts nothing again; engines finish what is under way.
    """
    ended = []
    for name, identity in _running(layout, lambda name: not name.startswith("engine-")):
        await identity.end(STOP_S_MAX)
        ended.append(name)
    ended += await end_engines(layout, lambda _: True)
    return tuple(ended)


async def end_engines(layout: Layout, wanted: Callable[[str], bool]) -> list[str]:
    """Drains the engines whose process names are wanted; gives the names of those that ran."""
    ended = []
    for name, identity in _running(layout, lambda name: name.startswith("engine-") and wanted(name)):
        with suppress(SurfaceError, TimeoutError):
            await call(layout.engine_socket(name.removeprefix("engine-")), {"op": "drain"})
            async with asyncio.timeout(STOP_S_MAX):
                await identity.ended()
        await identity.end(STOP_S_MAX)
        layout.pid_file(name).unlink(missing_ok=True)
        ended.append(name)
    return ended


def _running(layout: Layout, wanted: Callable[[str], bool]) -> list[tuple[str, Identity]]:
    """The processes that pid files name and that are alive, `up` first."""
    names = sorted((file.stem for file in layout.run.glob("*.pid")), key=lambda name: (name != UP, name))
    found = [(name, read_pid(layout.pid_file(name))) for name in names if wanted(name)]
    return [(name, identity) for name, identity in found if identity is not None]


async def engines_json(layout: Layout) -> list[dict[str, Any]]:
    """What every engine that was started here says of itself; `error` if it does not answer."""
    names = sorted(file.stem.removeprefix("engine-") for file in layout.run.glob("engine-*.pid"))
    return [await _engine_json(name, layout.engine_socket(name)) for name in names]


async def _engine_json(name: str, socket: Path) -> dict[str, Any]:
    empty = {
        "engine": name,
        "role": "",
        "pid": 0,
        "version": "",
        "listeners": {},
        "services": [],
        "error": "",
    }
    try:
        hello = await call(socket, {"op": "hello"})
        status = await call(socket, {"op": "status"})
    except SurfaceError as error:
        return empty | {"error": str(error)}
    shown = {key: hello[key] for key in ("role", "pid", "version", "listeners")}
    return empty | shown | {"services": status["services"]}


async def overview(layout: Layout) -> dict[str, Any]:
    """What `polycdn status --json` prints: the decider's status with the engines, and what is amiss.

    Raises UnavailableError when neither a decider nor an engine runs here.
    """
    engines = await engines_json(layout)
    decider: dict[str, Any] = {"services": [], "surfaces": [], "vantages": [], "journal": {"error": ""}}
    problems = [f"engine {one['engine']} does not answer: {one['error']}" for one in engines if one["error"]]
    try:
        answer = await call(layout.decider_socket, {"op": "status"})
        decider |= {key: value for key, value in answer.items() if key != "ok"}
    except SurfaceError:
        if all(one["error"] for one in engines):
            raise UnavailableError(f"nothing runs on {layout.state}; start it with `polycdn up`") from None
        problems.append("no decider runs; engines serve their last plan")
    problems += [
        f"surface {one['surface']}, {one['service']}: {one['error']}"
        for one in decider["surfaces"]
        if one["error"]
    ]
    problems += [
        f"service {one['service']}: {one['failure']}" for one in decider["services"] if one["failure"]
    ]
    problems += [decider["journal"]["error"]] if decider["journal"]["error"] else []
    return decider | {"engines": engines, "problems": problems}
