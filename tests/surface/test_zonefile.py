"""Zone files: another reader takes them, the serial grows, answers are as near the shares as DNS allows."""

import asyncio
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.errors import SurfaceError
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import NameServer, Settings, Upstream, Zone
from polycdn.model.topology import Endpoint, ProviderKind, Region
from polycdn.surface.base import Create, Delete, Held, Update, Wanted, want
from polycdn.surface.zonefile import SERIAL_SPAN, ZoneFileSurface, nearest_equal_split, next_serial

ZONE = Zone(
    "example.org", (NameServer("ns1.example.org", ("192.0.2.53", "2001:db8::53")),), "dns.admin@example.org"
)
MADE_MS = 1_700_000_000_000

UPSTREAMS = (
    Upstream(
        "a", ProviderKind.CDN, Endpoint("a.example"), ipv4=("192.0.2.1", "192.0.2.2"), ipv6=("2001:db8::1",)
    ),
    Upstream("b", ProviderKind.CDN, Endpoint("b.example"), ipv4=("192.0.2.11",)),
    Upstream("c", ProviderKind.CDN, Endpoint("c.example"), cname="www.example.org.c.net"),
)


def wanted(
    generation: int = 1, hostname: str = "www.example.org", made_ms: int = MADE_MS, **share_bp: int
) -> Wanted:
    shares = tuple(share_bp.items()) or (("a", 10_000),)
    plan = Plan("www", generation, 0, made_ms, (RegionPlan("anywhere", shares, ("a", "b", "c"), 45),))
    return want(plan, Settings("www", (hostname, "elsewhere.example.net"), UPSTREAMS, regions=(Region(),)))


def written(folder: Path, *orders: Wanted) -> dns.zone.Zone:
    """The zone after each plan, as dnspython reads the file."""
    file = folder / "zone"

    async def story() -> None:
        surface = ZoneFileSurface("ns", file, ZONE)
        for one in orders:
            await surface.apply(Create(one))

    asyncio.run(story())
    return dns.zone.from_file(str(file), origin="example.org", relativize=False)


def answers(zone: dns.zone.Zone, kind: str, name: str = "www.example.org.") -> tuple[list[str], int]:
    """Texts and TTL of an RRset."""
    found = zone.get_rdataset(name, kind)
    return ([], 0) if found is None else (sorted(item.to_text() for item in found), found.ttl)


def test_zone_has_soa_ns_glue_and_the_plans_answers_with_its_ttl(tmp_path: Path) -> None:
    zone = written(tmp_path, wanted())
    assert answers(zone, "A") == (["192.0.2.1", "192.0.2.2"], 45)
    assert answers(zone, "AAAA") == (["2001:db8::1"], 45)
    assert answers(zone, "NS", "example.org.")[0] == ["ns1.example.org."]
    assert answers(zone, "A", "ns1.example.org.")[0] == ["192.0.2.53"]
    (soa,), _ = answers(zone, "SOA", "example.org.")
    assert soa.split()[:3] == ["ns1.example.org.", r"dns\.admin.example.org.", "1700000000"]
    assert answers(zone, "A", "elsewhere.example.net.") == ([], 0)


def test_txt_record_keeps_the_generation(tmp_path: Path) -> None:
    zone = written(tmp_path, wanted(7))
    (text,), _ = answers(zone, "TXT", "_polycdn.www.example.org.")
    assert '"service=www" "generation=7"' in text


def test_provider_without_addresses_is_answered_by_name(tmp_path: Path) -> None:
    zone = written(tmp_path, wanted(c=10_000))
    assert answers(zone, "CNAME")[0] == ["www.example.org.c.net."]
    assert answers(zone, "A")[0] == []


def test_name_at_the_zones_apex_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    written(tmp_path, wanted(1, "example.org"))
    before = (tmp_path / "zone").read_bytes()
    with pytest.raises(SurfaceError, match="apex"):
        written(tmp_path, wanted(2, "example.org", c=10_000))
    assert (tmp_path / "zone").read_bytes() == before


def test_service_outside_the_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurfaceError, match="no hostname lies in"):
        written(tmp_path, wanted(1, "www.example.com"))


def test_equal_shares_answer_with_as_many_addresses_of_each(tmp_path: Path) -> None:
    zone = written(tmp_path, wanted(a=5_000, b=5_000))
    assert answers(zone, "A")[0] == ["192.0.2.1", "192.0.2.11"]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_no_other_number_of_providers_misplaces_less_traffic(parts: list[int]) -> None:
    total = sum(parts)
    shares = sorted((part * 10_000 // total for part in parts), reverse=True)
    named = [
        (Upstream(str(place), ProviderKind.CDN, Endpoint("x")), share) for place, share in enumerate(shares)
    ]
    chosen = len(nearest_equal_split(named))

    def misplaced(count: int) -> int:
        return sum(abs(share - 10_000 // count * (place < count)) for place, share in enumerate(shares))

    assert all(misplaced(chosen) <= misplaced(count) for count in range(1, len(shares) + 1))


def test_provider_on_probation_is_not_in_the_answer(tmp_path: Path) -> None:
    assert answers(written(tmp_path, wanted(a=9_500, b=500)), "A")[0] == ["192.0.2.1", "192.0.2.2"]


@given(st.integers(0, SERIAL_SPAN - 1), st.integers(0, SERIAL_SPAN - 1))
def test_every_next_serial_is_newer_for_a_secondary(serial: int, made_s: int) -> None:
    ahead = (next_serial(serial, made_s) - serial) % SERIAL_SPAN
    assert 0 < ahead < SERIAL_SPAN // 2


def test_serial_grows_with_every_change_even_in_the_same_second(tmp_path: Path) -> None:
    first = answers(written(tmp_path, wanted(1)), "SOA", "example.org.")[0][0].split()[2]
    second = answers(written(tmp_path, wanted(2)), "SOA", "example.org.")[0][0].split()[2]
    assert int(second) == int(first) + 1


def test_deleted_service_leaves_a_zone_without_it(tmp_path: Path) -> None:
    async def story() -> tuple[Held, ...]:
        surface = ZoneFileSurface("ns", tmp_path / "zone", ZONE)
        await surface.apply(Create(wanted()))
        await surface.apply(Delete("www"))
        return await surface.read()

    assert asyncio.run(story()) == ()
    zone = dns.zone.from_file(str(tmp_path / "zone"), origin="example.org", relativize=False)
    assert answers(zone, "A") == ([], 0)


def test_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text("$ORIGIN example.org.\nwww A 192.0.2.9\n")
    with pytest.raises(SurfaceError, match="not a zone file of ours"):
        written(tmp_path, wanted())
    assert "192.0.2.9" in (tmp_path / "zone").read_text()


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "zone"
    written(tmp_path, wanted(1))
    opened = file.open()
    asyncio.run(ZoneFileSurface("ns", file, ZONE).apply(Update(wanted(2), 1)))
    assert 'generation=1"' in opened.read()
    opened.close()
    assert 'generation=2"' in file.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["zone"]
