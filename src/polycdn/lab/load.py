"""Load: one population of clients. Sends by a fixed schedule, whatever becomes of it (open loop)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from polycdn.lab.checks import ChatCheck, FeedCheck, ObjectCheck
from polycdn.lab.content import PATCH_PATH, PLAYLIST_PATH, Content, probed_objects, segment_path
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fetch import Call, Check, Outcome, Site, client_context, fetch
from polycdn.lab.logs import LineLog
from polycdn.lab.resolver import Resolver, Unresolved, make_resolvers
from polycdn.lab.spec import LoadSpec, Rates
from polycdn.model.chance import MILLION_PPM, chance_ppm
from polycdn.model.observation import Reason
from polycdn.model.topology import Expect
from polycdn.model.units import Clock

DRAIN_S_MAX: Final = 3
MRPS_PER_RPS: Final = 1_000
PLAYLIST_EVERY: Final = 5
CHAT_FIRST_EVENT_MS: Final = 5_000
CHAT_REST_MS: Final = 15_000
PATCH_REST_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Shot:
    """One request that is due: what is logged as its kind, what is sent, what a good answer is."""

    kind: str
    key: str
    call: Call
    check: Check


Aimed = Callable[[int], Shot]


class Shots:
    """The n-th request of each group, `key` = client/group/n. The same for every run of a spec."""

    def __init__(self, client: str, content: Content, wall: Clock) -> None:
        self._client = client
        self._content = content
        self._wall = wall
        self._expected: dict[str, Expect] = {each.path: each.expect for each in probed_objects(content)}

    def groups(self, rates: Rates) -> tuple[tuple[str, int, Aimed], ...]:
        """(group, requests per 1 000 s, maker of the n-th request) of all groups with a rate."""
        found: tuple[tuple[str, int, Aimed], ...] = (
            ("chat", rates.chat_mrps, self.chat),
            ("feed-get", rates.feed_get_mrps, self.feed_get),
            ("feed-post", rates.feed_post_mrps, self.feed_post),
            ("music", rates.music_mrps, self.music),
            ("patch", rates.patch_mrps, self.patch),
        )
        return tuple(group for group in found if group[1] > 0)

    def chat(self, number: int) -> Shot:
        """A chat reply as an event stream; logged as `chat-connect`, and as `chat-stream` once connected."""
        key = f"{self._client}/chat/{number}"
        fields = {LAB_KEY: key, "accept": "text/event-stream"}
        call = Call("GET", f"/chat?reply={key}", fields, rest_ms=CHAT_REST_MS)
        return Shot("chat", key, call, ChatCheck(self._content, key, self._wall))

    def feed_get(self, number: int) -> Shot:
        """A post of the feed."""
        key = f"{self._client}/feed-get/{number}"
        return Shot("feed-get", key, Call("GET", f"/feed/{number}", {LAB_KEY: key}), FeedCheck(number))

    def feed_post(self, number: int) -> Shot:
        """A new post, to be executed once."""
        key = f"{self._client}/feed-post/{number}"
        fields = {LAB_KEY: key, "idempotency-key": key, "content-type": "application/json"}
        body = b'{"text":"hello"}'
        return Shot("feed-post", key, Call("POST", "/feed", fields, body), FeedCheck(None))

    def music(self, number: int) -> Shot:
        """Each fifth request the playlist, else the next segment."""
        key = f"{self._client}/music/{number}"
        if number % PLAYLIST_EVERY == 0:
            return self._object("music-playlist", key, PLAYLIST_PATH)
        return self._object("music-segment", key, segment_path(number % self._content.segments))

    def patch(self, number: int) -> Shot:
        """The whole patch."""
        return self._object("patch", f"{self._client}/patch/{number}", PATCH_PATH, PATCH_REST_MS)

    def _object(self, kind: str, key: str, path: str, rest_ms: int = 10_000) -> Shot:
        call = Call("GET", path, {LAB_KEY: key}, rest_ms=rest_ms)
        return Shot(kind, key, call, ObjectCheck(self._expected[path]))


async def run_load(spec: LoadSpec, clock: Clock, wall: Clock, ready: Callable[[str], None]) -> None:
    """Sends from `start_ms` to `stop_ms`, then waits a little for what is under way."""
    log = LineLog(spec.request_log)
    shots = Shots(spec.process.name, spec.content, wall)
    resolvers, askers = await make_resolvers(spec, clock)
    client = Client(spec, resolvers, clock, wall, log)
    try:
        ready("")
        await clock.sleep_until(spec.start_ms)
        zero_ms = wall.now_ms()
        groups = shots.groups(spec.rates)
        await asyncio.gather(*(client.send_group(zero_ms, *group) for group in groups))
    finally:
        await client.drain()
        for asker in askers:
            asker.close()
        log.close()


@dataclass(frozen=True, slots=True)
class Sent:
    """When a shot was fired (timeline), how late that was (real), and at which address."""

    at_ms: int
    late_ms: int
    address: str = ""


class Client:
    """Fires shots when they are due and logs how each went."""

    def __init__(
        self, spec: LoadSpec, resolvers: tuple[Resolver, ...], clock: Clock, wall: Clock, log: LineLog
    ) -> None:
        self._spec = spec
        self._resolvers = resolvers
        self._clock = clock
        self._wall = wall
        self._log = log
        self._site = Site(spec.hostname, spec.port, client_context(spec.ca_file))
        self._tasks: set[asyncio.Task[None]] = set()

    async def send_group(self, zero_ms: int, group: str, rate_mrps: int, aimed: Aimed) -> None:
        """Request n is due n / rate after `zero_ms` of real time, groups and clients a little apart."""
        spec = self._spec
        interval_us = MILLION_PPM * MRPS_PER_RPS // rate_mrps
        offset_us = interval_us * chance_ppm(spec.seed, spec.process.name, group) // MILLION_PPM
        for number in count():
            due_ms = zero_ms + (offset_us + number * interval_us) // 1000
            await self._wall.sleep_until(due_ms)
            if spec.stop_ms and self._clock.now_ms() >= spec.stop_ms:
                return
            self._start(aimed(number), due_ms)

    async def drain(self) -> None:
        """Waits for requests under way; what is not done after DRAIN_S_MAX is dropped, unlogged."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S_MAX)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, shot: Shot, due_ms: int) -> None:
        """Fires without waiting. Beyond the bound nothing is sent, and the log says so (BLIND)."""
        sent = Sent(self._clock.now_ms(), self._wall.now_ms() - due_ms)
        if len(self._tasks) >= self._spec.in_flight_max:
            self._write(shot.kind, shot.key, sent, Outcome(Reason.BLIND, 0, 0, 0))
            return
        task = asyncio.get_running_loop().create_task(self._fire(shot, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fire(self, shot: Shot, sent: Sent) -> None:
        start_ms = self._wall.now_ms()
        index = chance_ppm(self._spec.seed, shot.key) % len(self._resolvers)
        try:
            address = await self._resolvers[index].address()
        except Unresolved as error:
            outcome = Outcome(error.reason, 0, self._wall.now_ms() - start_ms, 0)
        else:
            sent = Sent(self._clock.now_ms(), sent.late_ms, address)
            outcome = await fetch(self._site, address, shot.call, shot.check, self._wall)
        if isinstance(shot.check, ChatCheck):
            self._write_chat(shot, shot.check, sent, outcome)
        else:
            self._write(shot.kind, shot.key, sent, outcome)

    def _write_chat(self, shot: Shot, check: ChatCheck, sent: Sent, outcome: Outcome) -> None:
        """Connected is who saw the first event in time; only then there is a stream to judge."""
        first_ms = check.first_event_ms
        if not first_ms:
            self._write("chat-connect", shot.key, sent, outcome)
            return
        is_late = first_ms > CHAT_FIRST_EVENT_MS
        connected = Outcome(Reason.TIMEOUT if is_late else Reason.OK, first_ms, first_ms, 0)
        self._write("chat-connect", shot.key, sent, connected)
        self._write("chat-stream", shot.key, sent, outcome)

    def _write(self, kind: str, key: str, sent: Sent, outcome: Outcome) -> None:
        self._log.write(
            at_ms=sent.at_ms,
            client=self._spec.process.name,
            kind=kind,
            key=key,
            target=sent.address,
            ok=outcome.reason is Reason.OK,
            reason=outcome.reason.value,
            first_byte_ms=outcome.first_byte_ms,
            total_ms=outcome.total_ms,
            bytes=outcome.body_bytes,
            late_ms=sent.late_ms,
        )
