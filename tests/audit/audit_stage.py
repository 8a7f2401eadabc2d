"""Any evidence, for properties."""

from hypothesis import strategies as st

from polycdn.audit.evidence import (
    CertificateSeen,
    DnsLook,
    DnsRecord,
    DnsStatus,
    HttpLook,
    HttpStatus,
    NetworkLook,
    PageLook,
    PageSource,
    RegistrationLook,
    Resource,
    ResourceKind,
    Role,
    Target,
    TlsLook,
    TlsStatus,
    Unseen,
)

NAMES = ("shop.test.", "www.shop.test.", "dns.test.", "cdn.test.", "ca.test.", "xn--bcher-kva.test.")
names = st.sampled_from(NAMES)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.integers(0, 2**42)
addresses = st.sampled_from(("192.0.2.1", "198.51.100.7", "2001:db8::1"))
RTYPES = ("A", "AAAA", "NS", "SOA", "CNAME", "CAA", "MX", "DS")


def records() -> st.SearchStrategy[DnsRecord]:
    """Any record, often one that leads somewhere."""
    return st.builds(
        DnsRecord, names, st.sampled_from(RTYPES), st.integers(0, 2**31), names | addresses | texts
    )


def facts() -> st.SearchStrategy:
    """Any fact of an evidence file."""
    urls = names.map(lambda name: f"https://{name[:-1]}/")
    lists = st.lists(records(), max_size=4).map(tuple)
    pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
    links = st.lists(urls, max_size=2).map(tuple)
    certificates = st.builds(
        CertificateSeen, texts, texts, texts, st.lists(texts, max_size=2).map(tuple), moments, moments, texts,
        links, links, must_staple=st.booleans(),
    )  # fmt: skip
    resources = st.builds(
        Resource, urls, st.sampled_from(ResourceKind), st.booleans(), st.booleans(), st.booleans()
    )
    loads = st.lists(resources, max_size=3).map(tuple)
    statuses = st.sampled_from(DnsStatus)
    return st.one_of(
        st.builds(Target, names, st.sampled_from(Role), texts, st.integers(0, 3), names | st.just("")),
        st.builds(
            DnsLook, names, st.sampled_from(RTYPES), statuses, lists, lists, moments, moments
        ),
        st.builds(
            TlsLook, names, addresses, st.integers(1, 65_535), st.sampled_from(TlsStatus), texts, texts,
            st.lists(certificates, max_size=2).map(tuple), st.none() | st.booleans(), st.booleans(), texts,
        ),
        st.builds(HttpLook, urls, addresses, st.sampled_from(HttpStatus), st.integers(0, 599), pairs, texts),
        st.builds(
            PageLook, urls, st.sampled_from(PageSource), loads, st.booleans()
        ),
        st.builds(RegistrationLook, names, texts, texts, moments, st.lists(texts, max_size=2).map(tuple)),
        st.builds(NetworkLook, addresses, st.integers(0, 2**32 - 1), texts, texts),
        st.builds(Unseen, names | urls, st.sampled_from(("dns NS", "tls", "http", "page")), texts),
    )  # fmt: skip
