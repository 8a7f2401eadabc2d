"""RFC 9111 and its neighbours, rule by rule, through a real edge: what is kept, when it serves, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from alone import Alone, alone
from engine_process import poll
from providers import Exchange, Hangup, Provider, Reply, edge, get, parse, refused_port, settings, upstream

from polycdn.model.settings import CacheRules

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

LONG_AGO, LATER = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:39 GMT"


@dataclass(frozen=True)
class Says:
    """One answer of the origin; `status` 0 is none at all."""

    fields: str = ""
    body: bytes = b"0123456789"
    status: int = 200


@dataclass
class Origin:
    """Answers each path with what was laid out for it, in turn; with the last of it again and again."""

    answers: dict[str, list[Says]] = field(default_factory=dict)

    def behave(self, exchange: Exchange) -> None:
        left = self.answers[exchange.target.split("?")[0]]
        says = left.pop(0) if len(left) > 1 else left[0]
        if not says.status:
            raise Hangup
        body = b"" if says.status in (204, 304) else says.body
        fields = "".join(f"{row}\r\n" for row in says.fields.split("\n") if row)
        length = "" if says.status in (204, 304) else f"content-length: {len(body)}\r\n"
        head = f"HTTP/1.1 {says.status} Told\r\n{fields}{length}\r\n".encode()
        exchange.send(head + (b"" if exchange.method == "HEAD" else body))


@dataclass
class Rig:
    origin: Origin
    provider: Provider
    edge: Alone
    paths: int = 0

    def lay(self, *answers: Says) -> str:
        """A path of its own that the origin answers so."""
        self.paths += 1
        path = f"/rule/{self.paths}"
        self.origin.answers[path] = list(answers)
        return path

    def ask(self, target: str, fields: str = "", method: str = "GET") -> Reply:
        rows = "".join(f"{row}\r\n" for row in fields.split("\n") if row)
        return parse(self.edge.raw(get(target, f"{rows}connection: close\r\n", method)))

    def seen(self, target: str) -> list[Exchange]:
        return [one for one in self.provider.requests if one.target == target]


def told(reply: Reply) -> str:
    """What Cache-Status says of our own cache, without the time that is left."""
    words = str(reply.value("cache-status")).split("; ")
    assert words[0] == "polycdn"
    return "; ".join(word for word in words[1:] if not word.startswith("ttl="))


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    origin = Origin()
    with Provider(origin.behave) as provider, alone(provider.port, words=("--memory", "64MB")) as edge:
        yield Rig(origin, provider, edge)


KEPT = [
    "cache-control: max-age=60",
    'cache-control: MAX-AGE="60"',
    "cache-control: max-age=0, s-maxage=60",
    "cache-control: max-age=60\nexpires: 0",
    "expires: Thu, 18 Aug 2050 02:01:18 GMT",
    "expires: Thursday, 18-Aug-50 02:01:18 GMT",
    "cdn-cache-control: max-age=60\ncache-control: no-store\nexpires: 0",
    "cdn-cache-control: max-age=60, &\ncache-control: max-age=60",
    "cache-control: no-store, must-understand, max-age=60",
    'cache-control: max-age=60, other="no-store, private"',
    "cache-control: max-age=60\npragma: no-cache",
    "cache-control: max-age=60\nset-cookie: a=b",
    'cache-control: max-age=60, no-cache="x-secret"\nx-secret: 1',
    'cache-control: max-age=60, private="x-secret"\nx-secret: 1',
]


@pytest.mark.parametrize("fields", KEPT, ids=repr)
def test_an_answer_with_a_lifetime_is_kept_without_what_is_for_one_client(rig, fields):
    path = rig.lay(Says(f"{fields}\nx-kept: 1"))
    assert told(rig.ask(path)) == "fwd=uri-miss; fwd-status=200; stored"
    second = rig.ask(path)
    assert told(second) == "hit"
    assert (second.value("x-kept"), second.value("x-secret")) == ("1", None)
    assert len(rig.seen(path)) == 1


PASSED = {
    "": "no-freshness",
    f"last-modified: {LONG_AGO}": "no-freshness",
    "cache-control: public": "no-freshness",
    "cache-control: max-age=60, no-store": "no-store",
    "cache-control: max-age=60, NO-STORE=x": "no-store",
    "cache-control: max-age=60, private": "private",
    "cdn-cache-control: private\ncache-control: max-age=60": "private",
    "cdn-cache-control: no-store\ncache-control: max-age=60": "no-store",
    "cache-control: max-age=60\nvary: *": "vary-star",
    "cache-control: max-age=60\nvary: x-a, *": "vary-star",
    "cache-control: max-age=0": "stale-without-validator",
    "cache-control: max-age=60\nage: 60": "stale-without-validator",
    f"cache-control: max-age=60\ndate: {LONG_AGO}": "stale-without-validator",
    "cache-control: max-age=60, max-age=61": "stale-without-validator",
    "cache-control: max-age=60.5": "stale-without-validator",
    "expires: 0": "stale-without-validator",
    "cache-control: no-cache, max-age=60": "stale-without-validator",
}


@pytest.mark.parametrize("fields", PASSED, ids=repr)
def test_what_may_not_be_kept_is_passed_on_with_the_reason(rig, fields):
    path = rig.lay(Says(fields))
    for _ in range(2):
        assert told(rig.ask(path)) == f"fwd=uri-miss; fwd-status=200; detail={PASSED[fields]}"
    assert len(rig.seen(path)) == 2


def test_a_status_that_is_not_understood_is_not_kept_where_it_must_be(rig):
    path = rig.lay(Says("cache-control: max-age=60, must-understand", status=599))
    assert told(rig.ask(path)) == "fwd=uri-miss; fwd-status=599; detail=not-understood"


@pytest.mark.parametrize("status", [204, 301, 308, 404, 410, 451, 500, 503])
def test_any_final_status_is_kept_if_it_has_a_lifetime(rig, status):
    path = rig.lay(Says("cache-control: max-age=60", status=status))
    rig.ask(path)
    second = rig.ask(path)
    assert (second.status, told(second)) == (status, "hit")


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("max-age=60", "fwd=uri-miss; fwd-status=200; detail=authorization"),
        ("max-age=60, public", "hit"),
        ("max-age=60, must-revalidate", "hit"),
        ("s-maxage=60", "hit"),
    ],
)
def test_an_answer_to_credentials_is_shared_only_if_its_sender_says_so(rig, control, expected):
    path = rig.lay(Says(f"cache-control: {control}"))
    rig.ask(path, "authorization: Basic eDp5")
    assert told(rig.ask(path, "authorization: Basic eDp6")) == expected


def test_age_counts_what_came_before_us_and_what_passed_since(rig):
    path = rig.lay(Says("cache-control: max-age=60\nage: 20"))
    assert rig.ask(path).value("age") == "20"
    poll(lambda: rig.ask(path).value("age") == "21", "the answer does not get older")
    assert str(rig.ask(path).value("cache-status")).startswith("polycdn; hit; ttl=3")


# Half of its life is over, and it can be validated.
HALF = 'cache-control: max-age=60\nage: 30\netag: "a"'
STALE = 'cache-control: max-age=60\nage: 70\netag: "a"'

ASKED = "fwd=stale; fwd-status=304; stored"

WISHES = [
    (HALF, "cache-control: max-age=10", "fwd=request; fwd-status=304; stored; detail=request-max-age"),
    (HALF, "cache-control: min-fresh=40", "fwd=request; fwd-status=304; stored; detail=request-min-fresh"),
    (HALF, "cache-control: no-cache", "fwd=request; fwd-status=304; stored; detail=request-no-cache"),
    (HALF, "pragma: no-cache", "fwd=request; fwd-status=304; stored; detail=request-no-cache"),
    (HALF, "cache-control: foo\npragma: no-cache", "hit"),
    (HALF, "cache-control: only-if-cached, max-age=40, min-fresh=20", "hit"),
    (HALF, "cache-control: only-if-cached, max-age=10", "detail=only-if-cached"),
    (f"{HALF}\ncache-control: immutable", "cache-control: max-age=0", "hit"),
    (STALE, "", ASKED),
    (STALE, "cache-control: max-stale", "hit; detail=max-stale"),
    (STALE, "cache-control: max-stale=20", "hit; detail=max-stale"),
    (STALE, "cache-control: max-stale=5", ASKED),
    (STALE, "cache-control: only-if-cached", "detail=only-if-cached"),
    (f"{STALE}\ncache-control: must-revalidate", "cache-control: max-stale", ASKED),
    (f"{STALE}\ncache-control: s-maxage=60", "cache-control: max-stale", ASKED),
    ('cache-control: max-age=60, no-cache\netag: "a"', "", f"{ASKED}; detail=no-cache"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "wish", "expected"), WISHES, ids=repr)
def test_clients_get_what_they_may_ask_of_a_cache(rig, fields, wish, expected):
    path = rig.lay(Says(fields), Says("cache-control: max-age=60", status=304))
    rig.ask(path)
    reply = rig.ask(path, wish)
    assert (told(reply), reply.status) == (expected, 504 if expected == "detail=only-if-cached" else 200)


def test_what_a_client_wants_unstored_is_not_stored(rig):
    path = rig.lay(Says("cache-control: max-age=60"))
    rig.ask(path, "cache-control: no-store")
    assert told(rig.ask(path)) == "fwd=uri-miss; fwd-status=200; stored"


@pytest.mark.parametrize(
    ("validators", "conditions"),
    [
        ('etag: "a"', ('"a"', None)),
        ('etag: W/"a"', ('W/"a"', None)),
        (f"last-modified: {LONG_AGO}", (None, LONG_AGO)),
        (f'etag: "a"\nlast-modified: {LONG_AGO}', ('"a"', LONG_AGO)),
    ],
)
def test_a_stale_answer_is_validated_by_what_it_has_and_freshened(rig, validators, conditions):
    first = Says(f"cache-control: max-age=60\nage: 60\nx-old: 1\nx-both: 1\n{validators}")
    path = rig.lay(
        first, Says("cache-control: max-age=60\nx-both: 2\nx-new: 2\ncontent-encoding: gzip", status=304)
    )
    rig.ask(path, 'if-none-match: "client"')
    for expected in ("fwd=stale; fwd-status=304; stored", "hit"):
        reply = rig.ask(path)
        assert (reply.status, reply.body, told(reply)) == (200, b"0123456789", expected)
        values = [reply.value(name) for name in ("x-old", "x-both", "x-new", "content-encoding")]
        assert values == ["1", "2", "2", None]
    asked = rig.seen(path)
    assert [asked[0].value("if-none-match"), asked[0].value("if-modified-since")] == [None, None]
    assert (asked[1].value("if-none-match"), asked[1].value("if-modified-since")) == conditions


def test_a_304_about_another_version_is_not_believed(rig):
    path = rig.lay(
        Says(STALE), Says('etag: "b"', status=304), Says('cache-control: max-age=60\netag: "b"', b"new")
    )
    rig.ask(path)
    assert rig.ask(path).body == b"new"
    assert rig.seen(path)[2].value("if-none-match") is None
    assert (rig.ask(path).body, told(rig.ask(path))) == (b"new", "hit")


def test_a_new_answer_takes_the_place_of_a_stale_one(rig):
    path = rig.lay(Says(STALE), Says("cache-control: max-age=60", b"new"))
    rig.ask(path)
    reply = rig.ask(path)
    assert (reply.body, told(reply)) == (b"new", "fwd=stale; fwd-status=200; stored")
    assert (rig.ask(path).body, told(rig.ask(path))) == (b"new", "hit")


@pytest.mark.parametrize(
    ("control", "says", "expected"),
    [
        ("stale-if-error=60", 503, "fwd=stale; fwd-status=503; detail=stale-if-error"),
        ("stale-if-error=60", 500, "fwd=stale; fwd-status=500; detail=stale-if-error"),
        ("stale-if-error=60", 0, "fwd=stale; detail=stale-if-error"),
        ("stale-if-error=60", 404, "fwd=stale; fwd-status=404; detail=no-freshness"),
        ("stale-if-error=5", 503, "fwd=stale; fwd-status=503; detail=no-freshness"),
        ("", 503, "fwd=stale; fwd-status=503; detail=no-freshness"),
        ("", 0, "fwd=stale"),
        ("stale-if-error=60, must-revalidate", 503, "fwd=stale; fwd-status=503; detail=no-freshness"),
        ("stale-if-error=60, proxy-revalidate", 503, "fwd=stale; fwd-status=503; detail=no-freshness"),
        ("stale-if-error=60, must-revalidate", 0, "fwd=stale"),
        ("stale-while-revalidate=60", 503, "hit; detail=stale-while-revalidate"),
        (
            "stale-while-revalidate=60, proxy-revalidate",
            503,
            "fwd=stale; fwd-status=503; detail=no-freshness",
        ),
    ],
)
def test_a_stale_answer_stands_in_only_where_its_sender_allows_it(rig, control, says, expected):
    path = rig.lay(Says(f"{STALE}\ncache-control: {control}"), Says(status=says))
    rig.ask(path)
    reply = rig.ask(path)
    is_stale = "detail=stale" in expected
    assert (told(reply), reply.status) == (expected, 200 if is_stale else says or 502)
    assert reply.value("age") == ("70" if is_stale else None)


def test_a_client_can_accept_stale_answers_on_errors(rig):
    path = rig.lay(Says(STALE), Says(status=503))
    rig.ask(path)
    assert rig.ask(path, "cache-control: stale-if-error=60").status == 200
    assert rig.ask(path).status == 503


def test_an_answer_that_varies_serves_those_who_ask_alike(rig):
    path = rig.lay(Says("cache-control: max-age=60\nvary: accept-language, X-Kind"))
    rig.ask(path, "accept-language: en, de;q=0.5\nx-kind: 1\nx-other: 1")
    assert told(rig.ask(path, "X-KIND: 1\naccept-language: de;q=0.50,EN")) == "hit"
    assert told(rig.ask(path, "accept-language: de, en;q=0.5\nx-kind: 1")).startswith("fwd=")
    assert told(rig.ask(path, "accept-language: en, de;q=0.5")).startswith("fwd=")
    assert told(rig.ask(path, "accept-language: en, de;q=0.5\nx-kind: 1")) == "hit"


def test_a_head_is_served_from_what_get_stored_and_freshens_it(rig):
    path = rig.lay(Says(STALE), Says('cache-control: max-age=60\netag: "a"\nx-new: 1'))
    rig.ask(path)
    head = rig.ask(path, method="HEAD")
    assert (head.status, head.body, head.value("content-length")) == (200, b"", "10")
    assert [one.method for one in rig.seen(path)] == ["GET", "HEAD"]
    reply = rig.ask(path)
    assert (told(reply), reply.body, reply.value("x-new")) == ("hit", b"0123456789", "1")
    assert told(rig.ask(path, method="HEAD")) == "hit"


@pytest.mark.parametrize("fields", ['etag: "b"', f"last-modified: {LATER}"])
def test_a_head_of_another_version_makes_what_is_stored_unusable(rig, fields):
    stored = Says(f"{HALF}\nlast-modified: {LONG_AGO}")
    path = rig.lay(stored, Says(f"cache-control: max-age=60\n{fields}"), Says("", b"new"))
    rig.ask(path)
    rig.ask(path, "cache-control: no-cache", "HEAD")
    assert rig.ask(path).body == b"new"


def test_an_answer_to_head_alone_is_not_stored(rig):
    path = rig.lay(Says("cache-control: max-age=60"))
    assert rig.ask(path, method="HEAD").value("content-length") == "10"
    assert told(rig.ask(path)) == "fwd=uri-miss; fwd-status=200; stored"


@pytest.mark.parametrize(
    ("status", "forgets"), [(200, True), (204, True), (303, True), (404, False), (500, False)]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "X-OWN"])
def test_a_change_that_succeeds_forgets_all_that_it_names(rig, method, status, forgets):
    paths = [rig.lay(Says("cache-control: max-age=60")) for _ in range(3)]
    for path in paths:
        rig.ask(path)
    changed, *named = paths
    fields = f"location: {named[0]}\ncontent-location: http://www.example.test{named[1]}"
    rig.origin.answers[changed] = [Says(fields, status=status), Says("cache-control: max-age=60")]
    reply = rig.ask(changed, "content-length: 0", method)
    assert told(reply) == f"fwd=method; fwd-status={status}"
    assert [told(rig.ask(path)) == "hit" for path in paths] == [not forgets] * 3


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND"])
def test_a_safe_method_forgets_nothing_and_another_host_is_not_ours_to_forget(rig, method):
    path, other = rig.lay(Says("cache-control: max-age=60")), rig.lay(Says(status=204))
    rig.ask(path)
    rig.ask(path, "", method)
    rig.origin.answers[other] = [Says(f"location: http://elsewhere.test{path}", status=204)]
    rig.ask(other, "content-length: 0", "POST")
    assert told(rig.ask(path)) == "hit"


def test_an_answer_to_post_that_names_itself_serves_get(rig):
    path = rig.lay(Says("cache-control: max-age=60", b"old"))
    rig.ask(path)
    rig.origin.answers[path] = [Says(f"cache-control: max-age=60\ncontent-location: {path}", b"posted")]
    posted = rig.ask(path, 'content-length: 0\nif-none-match: "a"\nrange: bytes=0-1', "POST")
    assert (posted.status, posted.body, told(posted)) == (
        200,
        b"posted",
        "fwd=method; fwd-status=200; stored",
    )
    assert rig.seen(path)[1].value("if-none-match") == '"a"'
    reply = rig.ask(path)
    assert (reply.body, told(reply)) == (b"posted", "hit")


@pytest.mark.parametrize(
    "says",
    [
        Says("cache-control: max-age=60"),
        Says("cache-control: max-age=60\ncontent-location: /elsewhere"),
        Says("content-location: {path}"),
        Says("cache-control: no-store, max-age=60\ncontent-location: {path}"),
        Says("cache-control: max-age=60\ncontent-location: {path}", status=404),
    ],
    ids=repr,
)
def test_any_other_answer_to_post_serves_nobody_else(rig, says):
    path = rig.lay(Says())
    fields = says.fields.replace("{path}", path)
    rig.origin.answers[path] = [
        Says(fields, b"posted", says.status),
        Says("cache-control: max-age=60", b"got"),
    ]
    assert rig.ask(path, "content-length: 0", "POST").body == b"posted"
    assert rig.ask(path).body == b"got"


def test_a_part_is_kept_and_serves_what_it_holds(rig):
    part = Says("cache-control: max-age=60\ncontent-range: bytes 4-8/10", b"45678", 206)
    path = rig.lay(part, Says("cache-control: max-age=60\ncontent-range: bytes 9-9/10", b"9", 206))
    first = rig.ask(path, "range: bytes=4-8")
    assert (first.status, first.body, first.value("content-range")) == (206, b"45678", "bytes 4-8/10")
    inside = rig.ask(path, "range: bytes=6-7")
    assert (inside.body, inside.value("content-range"), told(inside)) == (b"67", "bytes 6-7/10", "hit")
    beyond = rig.ask(path, "range: bytes=9-9")
    assert (beyond.body, told(beyond)) == (b"9", "fwd=partial; fwd-status=206; stored")


def test_a_part_that_is_not_the_one_asked_for_comes_as_it_is_and_is_kept_as_what_it_is(rig):
    path = rig.lay(Says("cache-control: max-age=60\ncontent-range: bytes 4-9/10", b"45678", 206))
    first = rig.ask(path, "range: bytes=-5")
    assert (first.status, first.body, first.value("content-range")) == (206, b"45678", "bytes 4-9/10")
    inside = rig.ask(path, "range: bytes=6-8")
    assert (inside.body, told(inside)) == (b"678", "hit")
    assert told(rig.ask(path, "range: bytes=9-9")).startswith("fwd=partial")


RANGES = [
    ("range: bytes=0-3", 206, b"0123"),
    ("range: bytes=7-", 206, b"789"),
    ("range: bytes=-2", 206, b"89"),
    ("range: bytes=-99", 206, b"0123456789"),
    ("range: bytes=8-99", 206, b"89"),
    ("range: bytes=10-", 416, None),
    ("range: bytes=-0", 416, None),
    ("range: bytes=3-2", 200, b"0123456789"),
    ("range: lines=1-2", 200, b"0123456789"),
    ('range: bytes=0-3\nif-range: "a"', 206, b"0123"),
    ('range: bytes=0-3\nif-range: W/"a"', 200, b"0123456789"),
    ('range: bytes=0-3\nif-range: "b"', 200, b"0123456789"),
    (f"range: bytes=0-3\nif-range: {LONG_AGO}", 206, b"0123"),
    (f"range: bytes=0-3\nif-range: {LATER}", 200, b"0123456789"),
    ('range: bytes=0-3\nif-none-match: "a"', 304, b""),
    ('range: bytes=0-3\nif-match: "b"', 412, None),
    ('if-none-match: W/"a"', 304, b""),
    (f'if-none-match: "b"\nif-modified-since: {LATER}', 200, b"0123456789"),
    (f"if-modified-since: {LONG_AGO}", 304, b""),
    ("if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT", 200, b"0123456789"),
    ("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", 412, None),
    ("if-match: *", 200, b"0123456789"),
]


@pytest.fixture(scope="module")
def stored(rig: Rig) -> str:
    path = rig.lay(Says(f'cache-control: max-age=600\netag: "a"\nlast-modified: {LONG_AGO}'))
    rig.ask(path)
    return path


@pytest.mark.parametrize(("fields", "status", "body"), RANGES, ids=repr)
def test_conditions_and_ranges_are_judged_by_what_is_stored(rig, stored, fields, status, body):
    reply = rig.ask(stored, fields)
    assert (reply.status, told(reply)) == (status, "hit")
    assert body is None or reply.body == body
    assert (reply.value("content-range") == "bytes */10") == (status == 416)
    assert len(rig.seen(stored)) == 1


MISLEADING = [
    "forwarded", "x-forwarded-host", "x-forwarded-scheme", "x-forwarded-port", "x-forwarded-prefix", "x-host",
    "x-original-url", "x-original-host", "x-rewrite-url", "x-http-method-override", "x-method-override",
    "x-http-host-override", "x_forwarded_host", "true-client-ip", "x-real-ip", "proxy", "front-end-https",
]  # fmt: skip


@pytest.mark.parametrize("wish", ["", "cache-control: no-store", "cache-control: no-cache"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_field_outside_of_the_key_misleads_the_origin(rig, method, wish):
    path = rig.lay(Says("cache-control: max-age=60"))
    rig.ask(path, "\n".join([*(f"{name}: evil.test" for name in MISLEADING), wish]), method)
    (seen,) = rig.seen(path)
    assert "evil.test" not in [value for _, value in seen.fields]
    assert seen.value("host") == "www.example.test"


def test_an_origin_that_is_gone_is_told_by_both_status_fields():
    with alone(refused_port()) as edge:
        reply = parse(edge.raw(get()))
        assert (reply.status, told(reply)) == (503, "fwd=uri-miss")
        assert "connection_refused" in str(reply.value("proxy-status"))


CONFIGURED = [
    (CacheRules(), Says(f"last-modified: {LONG_AGO}"), "detail=no-freshness"),
    (CacheRules(heuristic=True), Says(f"last-modified: {LONG_AGO}"), "hit"),
    (CacheRules(heuristic=True), Says(f"last-modified: {LONG_AGO}\nset-cookie: a=b"), "detail=set-cookie"),
    (CacheRules(), Says(status=404), "detail=no-freshness"),
    (CacheRules(negative_ttls=((404, 60),)), Says(status=404), "hit"),
    (CacheRules(negative_ttls=((404, 60),)), Says("cache-control: no-store", status=404), "detail=no-store"),
    (CacheRules(negative_ttls=((404, 60),)), Says(status=410), "detail=no-freshness"),
    (CacheRules(object_bytes_max=9), Says("cache-control: max-age=60"), "detail=too-large"),
    (CacheRules(stale_while_revalidate_s=60), Says(STALE), "detail=stale-while-revalidate"),
]


@pytest.fixture(scope="module")
def configured() -> Iterator[tuple[Origin, Provider, object]]:
    origin = Origin()
    with Provider(origin.behave) as provider, edge() as one:
        yield origin, provider, one


@pytest.mark.parametrize(("rules", "says", "expected"), CONFIGURED, ids=repr)
def test_an_operator_allows_more_by_settings(configured, rules, says, expected):
    origin, provider, one = configured
    path = f"/{len(provider.requests)}"
    origin.answers[path] = [says]
    one.serve(settings(upstream("a", provider.port), cache=rules))
    parse(one.raw(get(path)))
    assert expected in told(parse(one.raw(get(path))))


@pytest.mark.parametrize(
    ("rules", "first", "second", "seen"),
    [
        (CacheRules(query="keep"), "?b=1&a=2", "?a=2&b=1", ["?b=1&a=2", "?a=2&b=1"]),
        (CacheRules(query="sort"), "?b=1&a=2", "?a=2&b=1", ["?a=2&b=1"]),
        (CacheRules(query="ignore"), "?b=1", "?c", [""]),
        (CacheRules(query="allow", query_names=("a",)), "?b=1&a=2", "?a=2&utm=x", ["?a=2"]),
        (CacheRules(query="allow", query_names=("a",)), "?a=2", "?a=3", ["?a=2", "?a=3"]),
    ],
    ids=repr,
)
def test_a_query_is_to_the_origin_what_it_is_to_the_key(configured, rules, first, second, seen):
    origin, provider, one = configured
    path = f"/query/{len(provider.requests)}"
    origin.answers[path] = [Says("cache-control: max-age=60")]
    one.serve(settings(upstream("a", provider.port), cache=rules))
    for query in (first, second, first):
        assert parse(one.raw(get(path + query))).status == 200
    assert [one.target.removeprefix(path) for one in provider.requests if one.target.startswith(path)] == seen


def test_a_provider_that_is_gone_is_stood_in_for_where_settings_say_so(configured):
    origin, provider, one = configured
    for rules, status in ((CacheRules(), 502), (CacheRules(stale_on_disconnect_s=60), 200)):
        path = f"/gone/{status}"
        origin.answers[path] = [Says(STALE), Says(status=0)]
        one.serve(settings(upstream("a", provider.port), cache=rules))
        parse(one.raw(get(path)))
        assert parse(one.raw(get(path))).status == status
