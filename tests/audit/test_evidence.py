"""Evidence as a value and as a file: what is written is read again, and what is bad is told by line."""

import json

import pytest
from audit_stage import facts
from hypothesis import given
from hypothesis import strategies as st

from polycdn.audit.evidence import (
    DnsLook,
    DnsRecord,
    DnsStatus,
    Role,
    Target,
    TlsLook,
    TlsStatus,
    Unseen,
    evidence_of,
)
from polycdn.audit.evidence_file import (
    header_line,
    line_of,
    parse_evidence,
    read_evidence,
    write_evidence,
)
from polycdn.audit.names import canonical_name
from polycdn.errors import ConfigError

STARTED_MS = 1_795_000_000_123
HEADER = header_line(STARTED_MS, "0.1.0")

WWW = DnsLook(
    "www.shop.test.",
    "A",
    DnsStatus.NOERROR,
    (
        DnsRecord("www.shop.test.", "CNAME", 300, "shop.cdn.test."),
        DnsRecord("shop.cdn.test.", "A", 30, "192.0.2.1"),
    ),
)


@given(st.lists(facts(), max_size=8))
def test_what_is_written_is_read_again(known):
    evidence = evidence_of(known, STARTED_MS, "0.1.0")
    content = HEADER + b"".join(line_of(fact) for fact in evidence.facts)
    assert parse_evidence(content, "file") == evidence


@given(st.lists(facts(), max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_facts_means_nothing(known, dice):
    shuffled = list(known)
    dice.shuffle(shuffled)
    assert evidence_of(known, 0).facts == evidence_of(shuffled, 0).facts


def test_a_file_holds_the_same_evidence(tmp_path):
    evidence = evidence_of([WWW, Unseen("x.test.", "dns NS", "budget")], STARTED_MS, "0.1.0")
    write_evidence(evidence, tmp_path / "evidence.jsonl")
    assert read_evidence(tmp_path / "evidence.jsonl") == evidence
    first = (tmp_path / "evidence.jsonl").read_bytes().splitlines()[0]
    assert json.loads(first)["started"] == "2026-11-18T11:06:40.123Z"


def test_look_ups_are_found_by_name():
    shop = Target("shop.test.", Role.SERVICE, "asked for")
    operator = Target("dns.test.", Role.DNS, "nameserver of shop.test.", 1, "shop.test.")
    tls = TlsLook("shop.test.", "192.0.2.1", 443, TlsStatus.OK)
    evidence = evidence_of([operator, tls, WWW, shop, Unseen("shop.test.", "http", "timeout")], 0)
    assert evidence.asked == (shop,)
    assert evidence.children("shop.test.") == (operator,)
    assert evidence.dns("www.shop.test.", "A") == WWW
    assert evidence.dns("www.shop.test.", "AAAA") is None
    assert evidence.tls("shop.test.") == (tls,)
    assert evidence.unseen_of("shop.test.")[0].why == "timeout"
    assert WWW.values == ("192.0.2.1",)
    assert WWW.chain == ("shop.cdn.test.",)


def test_the_later_look_counts():
    early = DnsLook("a.test.", "NS", DnsStatus.TIMEOUT, at_ms=1)
    late = DnsLook("a.test.", "NS", DnsStatus.NOERROR, at_ms=2)
    assert evidence_of([late, early], 0).facts == (late,)


@pytest.mark.parametrize(
    ("content", "place", "found"),
    [
        (b"", "file:1", "an empty file"),
        (b"{}\n", "file:1", "no header line"),
        (b"[" * 100_000, "file:1", "no JSON"),
        (HEADER.replace(b'"version":1', b'"version":2'), "file:1", "version 2"),
        (HEADER.replace(b"2026", b"soon"), "file:1", "no moment"),
        (HEADER + b'{"kind":"tea"}\n', "file:2", "kind 'tea'"),
        (HEADER + b'{"kind":"dns","name":"a.test.","rtype":7,"status":"NOERROR"}', "file:2", "dns.rtype"),
        (HEADER + b'{"kind":"dns","name":"A.test","rtype":"A","status":"NOERROR"}', "file:2", "'A.test'"),
        (HEADER + b'{"kind":"unseen","subject":"a","what":"b","why":"c","who":"d"}', "file:2", "who"),
        (HEADER + b'{"kind":"unseen","subject":"\\ud800","what":"b","why":"c"}', "file:2", "surrogate"),
        (HEADER + b'{"kind":"unseen","subject":"' + b"x" * (5 << 20) + b'"}', "file:2", "a longer line"),
    ],
)
def test_a_bad_line_is_told_with_its_place(content, place, found):
    with pytest.raises(ConfigError) as caught:
        parse_evidence(content, "file")
    (fault,) = caught.value.faults
    assert fault.place == place
    assert found in fault.found


def test_all_bad_lines_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_evidence(HEADER + b"{}\n\nnull\n" + b"1\n" * 100, "file")
    assert [fault.place for fault in caught.value.faults[:3]] == ["file:2", "file:4", "file:5"]
    assert len(caught.value.faults) == 20


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_evidence(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("WWW.Example.COM", "www.example.com."),
        ("bücher.example", "xn--bcher-kva.example."),
        ("例え.テスト.", "xn--r8jz45g.xn--zckzah."),
        ("_dmarc.example.com.", "_dmarc.example.com."),
        ("*.example.com", "*.example.com."),
    ],
)
def test_a_name_has_one_form(text, name):
    assert canonical_name(text) == name


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a" * 64 + ".test", "x." * 200, "\ud800.test", "y" * 2_000]
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        canonical_name(text)


@given(st.text(max_size=300))
def test_any_text_is_a_name_in_its_one_form_or_refused(text):
    try:
        name = canonical_name(text)
    except ValueError:
        return
    assert canonical_name(name) == name
    assert name.endswith(".")
    assert name.isascii()
