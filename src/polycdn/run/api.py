"""The operator's words: a Unix socket of mode 0600, one JSON object a line, as engines have.

Used by the command line only; docs/operate.md has the shape of every answer. An order is answered once it is
in the journal.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from polycdn.errors import ConfigError, Fault, JournalError, SurfaceError, UnavailableError
from polycdn.measure.parity import observations_of
from polycdn.model.event import Event, Forced, Frozen, Observed, Released, Stance
from polycdn.model.plan import Severity
from polycdn.model.state import State
from polycdn.model.units import Clock
from polycdn.run.inbox import Inbox
from polycdn.run.serve import bind_unix
from polycdn.surface.control import LINE_BYTES_MAX, ask

FORCE_MS_DEFAULT: Final = 4 * 3_600_000
FORCE_MS_MAX: Final = 72 * 3_600_000
TEXT_CHARS_MAX: Final = 500
ORDERS: Final = ("force", "release", "freeze", "thaw", "parity")
ANSWER_MS_MAX: Final = 10_000
WRITTEN_S_MAX: Final = 5

Json = dict[str, Any]


class WordError(ValueError):
    """The operator's mistake in a word: what was found, what is allowed."""

    def __init__(self, place: str, found: str, allowed: str) -> None:
        self.fault = Fault(place, found, allowed, "nothing was changed; say it again with what is allowed")
        super().__init__(str(self.fault))


@dataclass(frozen=True, slots=True)
class Order:
    """One event for one service, from a word."""

    service: str
    event: Event


def orders_of(word: Json, states: dict[str, State], now_ms: int) -> tuple[Order, ...]:
    """The events that a word asks for, one per service that it touches. Raises WordError."""
    op = word.get("op")
    services = _services(word, states)
    if op in ("freeze", "thaw"):
        until_ms = now_ms if op == "thaw" else now_ms + _for_ms(word)
        event = Frozen(now_ms, until_ms, _text(word, "by"), _text(word, "why"))
        return tuple(Order(service, event) for service in services)
    if op == "parity":
        return tuple(Order(service, _parity_seen(word, states[service], now_ms)) for service in services)
    provider, region = _text(word, "provider"), _text(word, "region") or None
    touched = [service for service in services if _has(states[service], provider, region)]
    if not touched:
        raise WordError("provider", _named(provider, region), ", ".join(_known(states, services)) or "none")
    if op == "release":
        return tuple(
            Order(service, Released(now_ms, provider, region, _text(word, "by"))) for service in touched
        )
    forced = Forced(
        now_ms, provider, _stance(word), now_ms + _for_ms(word), region, _text(word, "by"), _text(word, "why")
    )
    return tuple(Order(service, forced) for service in touched)


def _parity_seen(word: Json, state: State, now_ms: int) -> Observed:
    """What `polycdn parity` found, as a look at every provider; it holds until the next one is equal."""
    assert state.service is not None
    names = [provider.name for provider in state.service.providers]
    told = word.get("not_ready")
    unknown = [name for name in told if name not in names] if isinstance(told, list) else [told]
    if unknown or not _text(word, "service"):
        raise WordError(
            "not_ready", repr(unknown)[:TEXT_CHARS_MAX], f"a service, and some of {', '.join(names)}"
        )
    return Observed(now_ms, observations_of(state.service, tuple(told or ()), now_ms))


def _services(word: Json, states: dict[str, State]) -> list[str]:
    known = sorted(name for name, state in states.items() if state.service is not None)
    service = _text(word, "service")
    if service and service not in known:
        raise WordError("service", repr(service), ", ".join(known) or "none is configured")
    return [service] if service else known


def _has(state: State, provider: str, region: str | None) -> bool:
    assert state.service is not None
    return any(one.name == provider for one in state.service.providers) and (
        region is None or any(one.name == region for one in state.service.regions)
    )


def _known(states: dict[str, State], services: list[str]) -> list[str]:
    found = []
    for service in services:
        known = states[service].service
        assert known is not None
        found.append(
            f"{service}: providers {', '.join(one.name for one in known.providers)} "
            f"in regions {', '.join(one.name for one in known.regions)}"
        )
    return found


def _named(provider: str, region: str | None) -> str:
    return repr(provider) if region is None else f"{provider!r} in region {region!r}"


def _stance(word: Json) -> Stance:
    stance = word.get("stance")
    if stance not in [one.value for one in Stance]:
        raise WordError("stance", repr(stance), "up, down or drain")
    return Stance(stance)


def _for_ms(word: Json) -> int:
    for_ms = word.get("for_ms", FORCE_MS_DEFAULT)
    if type(for_ms) is not int or not 0 < for_ms <= FORCE_MS_MAX:
        raise WordError("for", f"{for_ms} ms", f"up to {FORCE_MS_MAX} ms (72 h)")
    return for_ms


def _text(word: Json, name: str) -> str:
    text = word.get(name) or ""
    is_text = isinstance(text, str) and len(text) <= TEXT_CHARS_MAX and text.isprintable()
    if not is_text:
        raise WordError(name, "something else", f"one line of at most {TEXT_CHARS_MAX} printable characters")
    return str(text)


class OperatorDesk:
    """Answers the words. `show` gives the answers of words that change nothing: `status`, `explain`."""

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        states: Callable[[], dict[str, State]],
        show: Callable[[Json], Json],
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._states = states
        self._show = show
        self._server: asyncio.Server | None = None
        self._socket = Path()

    async def start(self, socket: Path) -> None:
        """Listens from now on. Raises UnavailableError."""
        self._socket = socket
        self._server = await asyncio.start_unix_server(
            self._talk, sock=bind_unix(socket), limit=LINE_BYTES_MAX
        )

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                self._socket.unlink()

    async def answer(self, word: Json) -> Json:
        """The answer to one word; never raises for what the operator said."""
        try:
            if word.get("op") in ("status", "explain"):
                return {"ok": True} | self._show(word)
            if word.get("op") not in ORDERS:
                raise WordError("op", repr(word.get("op")), ", ".join(("status", "explain", *ORDERS)))
            orders = orders_of(word, self._states(), self._clock.now_ms())
            await self._carry_out(orders)
        except WordError as error:
            fault = error.fault
            return {"ok": False, "error": str(error), "retry": False} | {
                "fault": {"place": fault.place, "found": fault.found, "allowed": fault.allowed}
            }
        except (JournalError, OverflowError, TimeoutError) as error:
            why = str(error) or "the decider is busy"
            return {
                "ok": False,
                "error": f"{why}; the order takes effect when it can be journalled",
                "retry": True,
            }
        states = self._states()
        return {
            "ok": True,
            "services": [
                {"service": order.service, "generation": states[order.service].generation} for order in orders
            ],
            "until_ms": getattr(orders[0].event, "until_ms", 0) if orders else 0,
            "warnings": [text for order in orders for text in _warnings(states[order.service])],
        }

    async def _carry_out(self, orders: tuple[Order, ...]) -> None:
        written = [self._inbox.put(order.service, order.event) for order in orders]
        async with asyncio.timeout(WRITTEN_S_MAX):
            results = await asyncio.gather(*written, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(_word(line))).encode() + b"\n")
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _warnings(state: State) -> list[str]:
    """What an operator should know of the plan as it is now, such as that nobody is left."""
    notes = state.plan.notes if state.plan is not None else ()
    return [note.text for note in notes if note.severity is Severity.WARNING]


def _word(line: bytes) -> Json:
    try:
        word = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return word if isinstance(word, dict) else {}


def say(socket: Path, word: Json) -> Json:
    """The decider's answer to one word, for the command line.

    Raises ConfigError for the operator's mistake, UnavailableError when no decider answers or can act now.
    """
    try:
        answer = asyncio.run(ask(socket, word, ANSWER_MS_MAX))
    except SurfaceError as error:
        raise UnavailableError(f"no decider answers; is `polycdn up` running? ({error})") from None
    if answer["ok"]:
        return {name: value for name, value in answer.items() if name != "ok"}
    fault = answer.get("fault")
    if isinstance(fault, dict):
        remedy = "nothing was changed; say it again with what is allowed"
        raise ConfigError((Fault(str(fault["place"]), str(fault["found"]), str(fault["allowed"]), remedy),))
    raise UnavailableError(str(answer.get("error", "the decider refused")))
