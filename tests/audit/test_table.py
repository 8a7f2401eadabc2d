"""The provider table: what is shipped is whole, and what is wrong in one is refused with its place."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.audit.table import provider_table
from polycdn.audit.table.load import table_of
from polycdn.audit.table.suffix import SuffixIndex
from polycdn.errors import ConfigError

ROW = """[[provider]]
id = "a"
name = "A"
company = "a"
roles = ["cdn"]
cname = ["a.test.example"]
source = "https://a.example/doc"
date = "2026-11-27"
"""


def test_the_shipped_table_names_at_least_sixty_providers_of_each_with_a_source_and_a_date():
    rows = provider_table().providers.values()
    assert len(rows) >= 60
    for role, least in (
        ("cdn", 40),
        ("dns", 30),
        ("ca", 20),
        ("cloud", 20),
        ("third-party", 30),
        ("identity", 8),
    ):
        assert sum(role in row.roles for row in rows) >= least, role
    for row in rows:
        assert row.source.startswith("https://")
        assert date.fromisoformat(row.date)


def test_the_large_ones_were_held_against_their_documents():
    rows = provider_table().providers
    for name in (
        "akamai",
        "cloudflare",
        "cloudfront",
        "fastly",
        "azure-front-door",
        "aws",
        "azure",
        "route53",
    ):
        assert date.fromisoformat(rows[name].read), name
    for row in rows.values():
        assert all(source.startswith("https://") for source in row.sources)
        assert row.read or not row.sources, row.id


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("d111111abcdef8.cloudfront.net.", "cloudfront"),
        ("www.example.com.edgekey.net", "akamai"),
        ("dualstack.j.sni.global.fastly.net", "fastly"),
        ("www.example.com.cdn.cloudflare.net", "cloudflare"),
        ("contoso.azurefd.net", "azure-front-door"),
        ("example.b-cdn.net", "bunny"),
        ("x.rsc.cdn77.org", "cdn77"),
        ("cl-1234.gcdn.co", "gcore"),
        ("example.x.incapdns.net", "imperva"),
        ("lb-1.eu-west-1.elb.amazonaws.com", "aws"),
        ("www.example.com.w.kunlunsl.com", "alibaba-cdn"),
        ("cname.vercel-dns.com", "vercel"),
        ("cname.vercel-dns-0.com", "vercel"),
        ("example.kxcdn.com", "keycdn"),
        ("x.wscdns.com", "wangsu"),
        ("www.example.com.ialicdn.com", "alibaba-cdn"),
        ("example.privatelink.azurewebsites.net", "azure"),
        ("example.scw.site", "scaleway"),
        ("example.supabase.co", "supabase"),
    ],
)
def test_a_name_leads_to_its_provider(name, provider):
    assert [owner for owner, _ in provider_table().by_cname(name)] == [provider]


@pytest.mark.parametrize(
    "name", ["notcloudfront.net", "cloudfront.net.example.com", "xfastly.net", "", ".", "com"]
)
def test_only_whole_labels_at_the_end_count(name):
    assert provider_table().by_cname(name) == ()


@pytest.mark.parametrize(
    ("server", "operator"),
    [
        ("ns-2048.awsdns-64.co.uk.", "route53"),
        ("ada.ns.cloudflare.com.", "cloudflare-dns"),
        ("ns1-01.azure-dns.com.", "azure-dns"),
        ("ns-cloud-a1.googledomains.com.", "google-dns"),
        ("dns1.p01.nsone.net.", "ns1"),
        ("pdns1.ultradns.net.", "ultradns"),
        ("a1-64.akam.net.", "akamai-dns"),
        ("ns1.p01.dynect.net.", "dyn"),
        ("ns53.domaincontrol.com.", "godaddy-dns"),
    ],
)
def test_a_nameserver_leads_to_its_operator(server, operator):
    assert provider_table().by_nameserver(server)[0][0] == operator


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("151.101.1.69", "fastly"),
        ("104.16.132.229", "cloudflare"),
        ("2606:4700::6810:84e5", "cloudflare"),
        ("13.32.0.1", "cloudfront"),
        ("23.32.1.1", "akamai"),
        ("45.60.1.1", "imperva"),
        ("185.199.108.153", "github-pages"),
        ("158.160.0.1", "yandex-cdn"),
        ("172.234.64.1", "linode"),
        ("194.182.160.1", "exoscale"),
        ("199.247.152.53", "dnsimple"),
    ],
)
def test_an_address_leads_to_its_provider(address, provider):
    assert provider in [owner for owner, _ in provider_table().by_address(address)]


def test_what_is_no_address_leads_nowhere():
    assert provider_table().by_address("www.example.com") == ()


def test_an_owner_of_an_owner_is_the_company():
    table = provider_table()
    assert table.company_of("edgecast") == table.company_of("akamai") == "akamai"


def test_what_a_provider_stands_on_is_followed_to_the_end_and_a_console_is_told_as_such():
    table = provider_table()
    assert {"ns1", "aws", "route53"} <= set(table.closure("vercel"))
    assert "cloudflare" not in table.closure("jsdelivr")
    assert "cloudflare" in table.closure("jsdelivr", critical_only=False)


def test_a_good_row_is_taken():
    assert table_of({"f.toml": ROW}, {}).by_cname("x.a.test.example")[0][0] == "a"


WRONG = {
    "no source": (ROW.replace('source = "https://a.example/doc"\n', ""), "source"),
    "a source that is no address": (ROW.replace("https://a.example/doc", "hearsay"), "hearsay"),
    "no date": (ROW.replace('date = "2026-11-27"\n', ""), "date"),
    "a day that there is not": (ROW.replace("2026-11-27", "2026-11-31"), "2026-11-31"),
    "a day of reading that there is not": (ROW + 'read = "2026-02-30"\n', "2026-02-30"),
    "a reading that is no text": (ROW + "read = 20261127\n", "20261127"),
    "further sources that nobody read": (ROW + 'sources = ["https://a.example/more"]\n', "no read"),
    "a further source that is no address": (
        ROW + 'read = "2026-11-27"\nsources = ["hearsay"]\n', "hearsay",
    ),
    "an unknown role": (ROW.replace('"cdn"', '"shop"'), "shop"),
    "an unknown field": (ROW + 'cnames = ["x.test"]\n', "cnames"),
    "upper case": (ROW.replace("a.test.example", "A.test.example"), "A.test.example"),
    "a single label": (ROW.replace("a.test.example", "example"), "two labels"),
    "a suffix of two rows": (ROW + ROW.replace('id = "a"', 'id = "b"'), "a.test.example"),
    "an id twice": (ROW + ROW, "a second row"),
    "a broken prefix": (ROW + 'ranges = ["10.0.0.1/8"]\n', "10.0.0.1/8"),
    "a list of prefixes that is not there": (ROW + 'ranges = ["@none"]\n', "@none"),
    "a network that there is not": (ROW + "asns = [0]\n", "asn 0"),
    "a dependency on nobody": (
        ROW + 'uses = [{ provider = "x", role = "dns", critical = true, why = "w" }]\n', "uses",
    ),
    "no TOML": ("[[provider", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("why", WRONG)
def test_a_row_that_is_wrong_is_refused_with_its_place(why):
    text, said = WRONG[why]
    with pytest.raises(ConfigError) as error:
        table_of({"f.toml": text}, {})
    assert said in str(error.value)
    assert "f.toml" in str(error.value) or "ranges/" in str(error.value)


def test_a_row_tells_when_it_was_held_against_its_documents_and_one_from_knowledge_does_not():
    text = ROW + 'read = "2026-11-27"\nsources = ["https://a.example/more"]\n'
    text += ROW.replace('id = "a"', 'id = "b"').replace("a.test", "b.test")
    rows = table_of({"f.toml": text}, {}).providers
    assert (rows["a"].read, rows["a"].sources) == ("2026-11-27", ("https://a.example/more",))
    assert (rows["b"].read, rows["b"].sources) == ("", ())


def test_two_rows_may_share_a_suffix_when_one_says_so():
    other = ROW.replace('id = "a"', 'id = "b"') + 'shares = ["a"]\n'
    assert [owner for owner, _ in table_of({"f.toml": ROW + other}, {}).by_cname("a.test.example")] == [
        "a",
        "b",
    ]


def test_a_list_of_prefixes_needs_a_source_and_a_date():
    with pytest.raises(ConfigError) as error:
        table_of({}, {"x": "192.0.2.0/24\n198.51.100.0/24\n"})
    assert "no source" in str(error.value)
    assert "no date" in str(error.value)


names = st.text("abc-.*_xn0", max_size=40) | st.text(max_size=30)


@given(names, st.lists(st.text("abc*", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_name_below_a_suffix_is_found_and_any_text_is_taken(text, labels):
    suffix = ".".join(labels)
    index = SuffixIndex([(suffix, "it")])
    assert index.find(f"www.{suffix.replace('*', 'a')}.") == (("it", suffix),)
    assert index.find(text) in ((), (("it", suffix),))
