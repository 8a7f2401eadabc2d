"""Detectors one by one, and what they say together."""

from hypothesis import given
from hypothesis import strategies as st
from small import answer, leaf, tls

from polycdn.audit.detect import SURE_BP, Clue, HostMarks, Method, combined, detect
from polycdn.audit.evidence import NetworkLook
from polycdn.audit.table import provider_table

TABLE = provider_table()


def first(marks):
    return detect(marks, TABLE)[0]


def test_each_method_alone_tells_with_its_evidence():
    shown = leaf(names=("*.freetls.fastly.net",))
    marks = {
        Method.CNAME: HostMarks(names=("www.example.com.", "x.fastly.net.")),
        Method.RANGE: HostMarks(addresses=("151.101.1.69",)),
        Method.NETWORK: HostMarks(networks=(NetworkLook("192.0.2.1", 54_113, "Fastly"),)),
        Method.HEADER: HostMarks(answers=(answer("www.example.com", ("x-fastly-request-id", "1")),)),
        Method.CERTIFICATE: HostMarks(handshakes=(tls("www.example.com.", "192.0.2.1", shown),)),
    }  # fmt: skip
    for method, each in marks.items():
        found = first(each)
        assert (found.provider, found.clues[0].method) == ("fastly", method)
        assert found.is_sure
        assert found.clues[0].evidence


def test_behaviour_alone_is_a_suspicion():
    found = first(HostMarks(answers=(answer("www.example.com", ("alt-svc", 'h3=":443"; ma=93600')),)))
    assert (found.provider, found.is_sure) == ("akamai", False)


def test_methods_that_agree_make_surer_and_the_same_one_twice_does_not():
    one = combined([Clue("a", Method.HEADER, 9_000, "x")])[0]
    same = combined([Clue("a", Method.HEADER, 9_000, "x"), Clue("a", Method.HEADER, 9_000, "y")])[0]
    two = combined([Clue("a", Method.HEADER, 9_000, "x"), Clue("a", Method.NETWORK, 8_000, "y")])[0]
    assert one.confidence_bp == same.confidence_bp == 9_000
    assert two.confidence_bp == 9_800


def test_the_longer_prefix_tells_the_cdn_and_the_shorter_one_the_cloud():
    providers = {each.provider for each in detect(HostMarks(addresses=("13.32.0.1",)), TABLE)}
    assert {"cloudfront", "aws"} <= providers


def test_prefixes_that_others_rent_count_less():
    assert first(HostMarks(addresses=("89.187.160.1",))).confidence_bp == 6_000


clues = st.builds(
    Clue, st.sampled_from("abc"), st.sampled_from(Method), st.integers(0, 9_999), st.text(max_size=3)
)


@given(st.lists(clues, max_size=12), st.randoms(use_true_random=False))
def test_more_clues_never_make_less_sure_and_their_order_does_not_matter(many, dice):
    mixed = [*many]
    dice.shuffle(mixed)
    assert combined(mixed) == combined(many)
    before = {each.provider: each.confidence_bp for each in combined(many[:-1])}
    for each in combined(many):
        assert before.get(each.provider, 0) <= each.confidence_bp < 10_000
        assert each.is_sure is (each.confidence_bp >= SURE_BP)
