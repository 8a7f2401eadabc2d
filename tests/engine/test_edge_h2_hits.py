"""Answers from memory over HTTP/2: the same as over HTTP/1.1, however little the client takes at a time."""

import io
from collections.abc import Iterator

import pycurl
import pytest
from alone import Alone, alone
from engine_process import poll
from providers import Exchange, Provider, answer

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

FIELDS = 'cache-control: max-age=600\r\netag: "one"\r\nX-Mixed-Case: Kept\r\n'
BODY = bytes(range(256)) * 4
LARGER = bytes((index * 11 + index // 251) % 256 for index in range(200_003))
H1, H2 = pycurl.CURL_HTTP_VERSION_1_1, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE


def behave(exchange: Exchange) -> None:
    if exchange.target.startswith("/vary"):
        said = (exchange.value("cookie") or "none").encode()
        return answer(said, fields=f"{FIELDS}vary: cookie\r\n")(exchange)
    return answer(LARGER if exchange.target == "/larger" else BODY, fields=FIELDS)(exchange)


@pytest.fixture(scope="module")
def origin() -> Iterator[Provider]:
    with Provider(behave) as one:
        yield one


@pytest.fixture(scope="module")
def edge(origin: Provider) -> Iterator[Alone]:
    with alone(origin.port) as one:
        yield one


class Seen:
    """What curl saw of one answer."""

    def __init__(self, edge: Alone, target: str, version: int, **options: object) -> None:
        self.handle, self.content, self.head = pycurl.Curl(), io.BytesIO(), io.BytesIO()
        self.handle.setopt(pycurl.URL, f"http://127.0.0.1:{edge.port}{target}")
        self.handle.setopt(pycurl.HTTP_VERSION, version)
        self.handle.setopt(pycurl.WRITEDATA, self.content)
        self.handle.setopt(pycurl.HEADERFUNCTION, self.head.write)
        self.handle.setopt(pycurl.TIMEOUT, 15)
        for name, value in options.items():
            self.handle.setopt(getattr(pycurl, name), value)

    def get(self) -> "Seen":
        self.handle.perform()
        return self

    @property
    def status(self) -> int:
        return int(self.handle.getinfo(pycurl.RESPONSE_CODE))

    @property
    def body(self) -> bytes:
        return self.content.getvalue()

    @property
    def fields(self) -> dict[str, str]:
        """By lower-case name, without what depends on the second in which it was asked."""
        rows = [row.partition(": ") for row in self.head.getvalue().decode().split("\r\n")[1:] if row]
        fields = {name.lower(): value.split("; ttl=")[0] for name, _, value in rows}
        return {name: value for name, value in fields.items() if name != "age"}


ASKED = {
    "whole": {},
    "only the head": {"NOBODY": 1},
    "nothing new": {"HTTPHEADER": ['if-none-match: "one"']},
    "a part": {"RANGE": "10-109"},
    "the end": {"RANGE": "-5"},
    "several parts": {"RANGE": "0-1,5-9"},
    "no such part": {"RANGE": "9000000-"},
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("target", ["/small", "/larger"])
def test_an_answer_from_memory_is_the_same_over_both_protocols(edge, origin, asked, target):
    for _ in range(3):
        Seen(edge, target, H1).get()
    before = len(origin.requests)
    one, two = (Seen(edge, target, version, **ASKED[asked]).get() for version in (H1, H2))
    assert two.handle.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0
    assert (two.status, two.fields) == (one.status, one.fields)
    assert two.body == one.body
    assert "hit" in two.fields["cache-status"]
    assert two.fields.get("x-mixed-case", "Kept") == "Kept"
    assert len(origin.requests) == before


def test_many_streams_at_once_each_get_their_own_bytes(edge):
    whole = [LARGER if number % 3 == 0 else BODY for number in range(60)]
    for target in ("/larger", "/small"):
        Seen(edge, target, H1).get()
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    targets = ["/larger" if content is LARGER else "/small" for content in whole]
    streams = [Seen(edge, target, H2, PIPEWAIT=1) for target in targets]
    for stream in streams:
        multi.add_handle(stream.handle)
    running = len(streams)
    while running:
        _, running = multi.perform()
        multi.select(1.0)
    assert [stream.body for stream in streams] == whole
    assert sum(stream.handle.getinfo(pycurl.NUM_CONNECTS) for stream in streams) == 1


def test_cookies_in_several_lines_are_one_when_the_answer_varies_by_them(edge, origin):
    split = ["cookie: a=1", "cookie: b=2"]
    first = Seen(edge, "/vary", H2, HTTPHEADER=split).get()
    assert first.body == b"a=1; b=2"
    for fields in (split, ["cookie: a=1; b=2"]):
        again = Seen(edge, "/vary", H2, HTTPHEADER=fields).get()
        assert (again.body, "hit" in again.fields["cache-status"]) == (b"a=1; b=2", True)
    assert Seen(edge, "/vary", H2, HTTPHEADER=["cookie: a=1"]).get().body == b"a=1"


def test_hits_over_http2_are_counted(edge):
    Seen(edge, "/small", H1).get()
    line = 'polycdn_edge_requests_total{cache="hit"}'
    before = edge.metric(line)
    for _ in range(5):
        Seen(edge, "/small", H2).get()
    poll(lambda: edge.metric(line) >= before + 5, "the hits are not counted")
