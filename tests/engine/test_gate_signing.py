"""Signed URIs (RFC 9246) at a real edge: every algorithm and place, rotation, renewal, and nobody else."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import poll
from gated import Gated, Signer, b64, gated, guarded, key_set, new_signer
from providers import HOST, Provider, get, published, says, upstream

from polycdn.model.settings import Gate, Issuer, Signing

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

FRESH = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\ngood"
NAME = "URISigningPackage"
ALGORITHMS = ["ES256", "RS256", "EdDSA", "HS256"]


@pytest.fixture(scope="module")
def one() -> Iterator[Gated]:
    with gated() as running:
        yield running


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(says(FRESH)) as running:
        yield running


def serve(
    one: Gated, provider: Provider, file: Path, *signers: Signer, is_cached: bool = True, **more: Any
) -> None:
    file.write_text(key_set(*signers))
    signing = Signing((Issuer("us", str(file)),), **more)
    one.serve(guarded(upstream("a", provider.port), gate=Gate(signing=signing), is_cached=is_cached))


def claims(path: str = "/video/.*", **more: Any) -> dict[str, Any]:
    return {"exp": int(time.time()) + 60, "cdniuc": f"regex:http://{HOST}{path}", **more}


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_of_each_algorithm_opens_its_uris_and_no_others(one, provider, tmp_path, alg):
    signer = new_signer(alg, "k1")
    serve(one, provider, tmp_path / "keys", signer)
    token = signer.token(claims())
    assert one.ask(get(f"/video/1?{NAME}={token}")).status == 200
    assert one.ask(get(f"/other/1?{NAME}={token}")).status == 403
    assert one.ask(get(f"/video/../other?{NAME}={token}")).status == 403
    assert one.ask(get("/video/1")).status == 403
    forged = new_signer(alg, "k1") if alg != "HS256" else Signer(alg, "k1", b"x" * 32)
    assert one.ask(get(f"/video/1?{NAME}={forged.token(claims())}")).status == 403
    assert one.ask(get(f"/video/1?{NAME}={signer.token(claims(), alg='none')}")).status == 403


def test_the_token_is_neither_part_of_the_key_nor_seen_by_the_origin(one, provider, tmp_path):
    signer = new_signer("ES256", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    tokens = [signer.token(claims(exp=int(time.time()) + 60 + number)) for number in range(4)]
    requests = [
        get(f"/video/1?a=b&{NAME}={tokens[0]}"),
        get(f"/video/1?{NAME}={tokens[1]}&a=b"),
        get(f"/video;{NAME}={tokens[2]}/1?a=b"),
        get("/video/1?a=b", f"connection: close\r\ncookie: x=1; {NAME}={tokens[3]}\r\n"),
    ]
    assert [one.ask(request).status for request in requests] == [200] * 4
    [seen] = provider.requests
    assert seen.target == "/video/1?a=b"
    assert one.ask(get("/video/1?a=b")).status == 403


def test_other_cookies_reach_the_origin_and_the_token_does_not(one, provider, tmp_path):
    signer = new_signer("EdDSA", "k1")
    serve(one, provider, tmp_path / "keys", signer, is_cached=False)
    cookie = f"x=1; {NAME}={signer.token(claims())}; y=2"
    assert one.ask(get("/video/1", f"connection: close\r\ncookie: {cookie}\r\n")).status == 200
    assert provider.requests[0].value("cookie") == "x=1; y=2"


def test_keys_rotate_without_a_new_plan(one, provider, tmp_path):
    old, new = new_signer("ES256", "2025"), new_signer("EdDSA", "2026")
    file = tmp_path / "keys"
    serve(one, provider, file, old)

    def opens(signer: Signer) -> bool:
        return one.ask(get(f"/video/1?{NAME}={signer.token(claims())}")).status == 200

    assert opens(old) and not opens(new)
    file.write_text(key_set(old, new))
    poll(lambda: opens(new), "the new key is not taken")
    assert opens(old)
    file.write_text("not a key set")
    poll(lambda: one.process.say({"op": "status"})["errors"], "the fault is not told")
    assert opens(old) and opens(new)
    file.write_text(key_set(new))
    poll(lambda: not opens(old), "the old key is not given up")
    assert opens(new)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"exp": 1}, "has expired"),
        ({"nbf": 99_999_999_999}, "not valid yet"),
        ({"aud": "somebody"}, "meant for somebody else"),
        ({"iss": "them"}, "another than its issuer"),
        ({"cdniv": 2}, "another version"),
        ({"cdnicrit": "x"}, "extensions"),
        ({"cdniip": "a.b.c.d.e"}, "client address"),
        ({"cdnistt": 1}, "renewed"),
        ({"cdniuc": "regex:("}, "pattern"),
        ({"cdniuc": "hash:sha-256;AAAA"}, "another URI"),
        ({"cdniuc": None}, "cannot be read"),
    ],
)
def test_a_refusal_says_why(one, provider, tmp_path, wrong, why):
    signer = new_signer("HS256", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    before = one.refused("token")
    reply = one.ask(get(f"/video/1?{NAME}={signer.token(claims(**wrong))}"))
    assert reply.status == 403
    assert why in reply.body.decode()
    assert one.refused("token") == before + 1


def test_who_has_no_token_is_told_that_one_is_needed(one, provider, tmp_path):
    serve(one, provider, tmp_path / "keys", new_signer("HS256", "k1"))
    before = one.refused("unsigned")
    reply = one.ask(get("/video/1"))
    assert (reply.status, one.refused("unsigned")) == (403, before + 1)
    assert b"needs a token" in reply.body
    assert provider.requests == []


def test_a_public_key_cannot_sign_as_a_secret(one, provider, tmp_path):
    signer = new_signer("EdDSA", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    public = signer.key.public_key().public_bytes_raw()
    forged = Signer("HS256", "k1", public).token(claims())
    assert one.ask(get(f"/video/1?{NAME}={forged}")).status == 403


def test_a_hash_opens_one_uri(one, provider, tmp_path):
    signer = new_signer("HS256", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    digest = b64(hashlib.sha256(f"http://{HOST}/video/1?a=b".encode()).digest())
    token = signer.token({**claims(), "cdniuc": f"hash:sha-256;{digest}"})
    assert one.ask(get(f"/video/1?a=b&{NAME}={token}")).status == 200
    assert one.ask(get(f"/video/1?a=c&{NAME}={token}")).status == 403


def test_a_token_for_one_use_works_once_whichever_worker_is_asked(provider, tmp_path):
    with gated(workers=2) as one:
        signer = new_signer("HS256", "k1")
        serve(one, provider, tmp_path / "keys", signer)
        token = signer.token(claims(jti="once"))
        statuses = [one.ask(get(f"/video/1?{NAME}={token}")).status for _ in range(10)]
        assert statuses == [200] + [403] * 9
        endless = signer.token(without(claims(jti="other"), "exp"))
        assert one.ask(get(f"/video/1?{NAME}={endless}")).status == 403


def test_a_chain_of_tokens_goes_from_cookie_to_cookie(one, provider, tmp_path):
    signer = new_signer("HS256", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    first = signer.token(claims(cdnistt=1, cdniets=30, cdnistd=1))
    reply = one.ask(get(f"/video/1?{NAME}={first}"))
    seen = set()
    for number in range(3):
        cookie = reply.value("set-cookie")
        assert cookie is not None
        pair, *attributes = cookie.split("; ")
        assert attributes == ["Path=/video", "Max-Age=30", "HttpOnly"]
        seen.add(pair)
        claimed = json.loads(_padded(pair.split("=", 1)[1].split(".")[1]))
        assert claimed["exp"] <= time.time() + 30
        reply = one.ask(get(f"/video/{number}", f"connection: close\r\ncookie: {pair}\r\n"))
        assert reply.status == 200
    assert one.ask(get("/other", f"connection: close\r\ncookie: {pair}\r\n")).status == 403


def _padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_key_that_only_verifies_cannot_begin_a_chain(one, provider, tmp_path):
    signer = new_signer("RS256", "k1")
    serve(one, provider, tmp_path / "keys", signer)
    reply = one.ask(get(f"/video/1?{NAME}={signer.token(claims(cdnistt=1, cdniets=30))}"))
    assert reply.status == 403
    assert b"no key here" in reply.body


def test_keys_that_cannot_be_used_are_refused_with_the_plan(one, provider, tmp_path):
    file = tmp_path / "keys"
    file.write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    gate = Gate(signing=Signing((Issuer("us", str(file)),)))
    wrong = guarded(upstream("a", provider.port), gate=gate)
    answer = one.process.apply(wrong, published(wrong, one.generation + 1))
    assert not answer["ok"]
    assert "3 bytes" in answer["error"] and str(file) in answer["error"]
