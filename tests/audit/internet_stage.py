"""A small internet and an audit of it."""

import asyncio
import json
from contextlib import asynccontextmanager

from polycdn.audit.collect import Asked, Means, collect_evidence
from polycdn.audit.networks_import import import_networks
from polycdn.audit.places import Places
from polycdn.audit.purse import Limits
from polycdn.lab.internet.plan import Plan, Site
from polycdn.lab.internet.world import Internet
from polycdn.run.clock import Wall

REGISTRIES = "https://registries.test/dns.json"
QUICK = Limits(seconds=45, look_ms=3_000, page_ms=10_000)


@asynccontextmanager
async def internet(plan, directory, **options):
    """The internet, running, and the means to look at it."""
    table = directory / "networks.csv"
    table.write_text(plan.networks_csv())
    import_networks([table], directory / "networks.bin")
    async with Internet(plan, Wall(), directory, **options) as world:
        yield Means(
            Wall(),
            QUICK,
            Places(world.places),
            world.roots,
            ca_file=world.ca_file,
            networks=directory / "networks.bin",
            bootstrap=REGISTRIES if "registries.test" in plan.sites else "",
        )


def audited(plan, directory, *names, change=lambda means: means, **options):
    """The evidence of an audit of some names."""

    async def run():
        async with internet(plan, directory, **options) as means:
            return await collect_evidence([Asked(name) for name in names], change(means), "test")

    return asyncio.run(run())


def shop_plan():
    """A shop at one DNS operator, behind a CDN whose DNS another one runs, with a third party in its page."""
    plan = Plan()
    plan.operator("alpha-dns.test.")
    plan.operator("beta-dns.net.")
    plan.authority("Lab Trust", "trust.test.", "beta-dns.net.")
    cdn = plan.zone("edge-cdn.net.", "beta-dns.net.")
    edge = plan.address("Edge CDN")
    cdn.add("shop.edge-cdn.net.", "A", edge, 30)
    cdn.add("edge7.edge-cdn.net.", "A", edge, 30)
    shop = plan.zone("shop.test.", "alpha-dns.test.", ttl_s=3_600)
    shop.add("shop.test.", "A", plan.address("Shop Hosting"))
    shop.add("shop.test.", "MX", "10 mail.post.test.")
    shop.add("shop.test.", "CAA", '0 issue "trust.test"')
    shop.add("www.shop.test.", "CNAME", "shop.edge-cdn.net.")
    post = plan.zone("post.test.", "beta-dns.net.")
    post.add("mail.post.test.", "A", plan.address("Post"))
    tags = plan.zone("tags.test.", "alpha-dns.test.")
    tags.add("cdn.tags.test.", "A", plan.address("Tags"))
    body = b'<html><head><script src="https://cdn.tags.test/t.js"></script></head><body>hello'
    plan.site(Site("shop.test", "Lab Trust", location="https://www.shop.test/"))
    plan.site(Site("www.shop.test", "Lab Trust", headers=(("server", "edge"), ("x-edge", "hit")), body=body))
    plan.site(
        Site("cdn.tags.test", "Lab Trust", is_stapling=False, content_type="text/javascript", body=b"1")
    )
    return plan


def add_registry(plan, registrars):
    """A list of registries, and one for .test that knows the registrar of some domains."""
    zone = plan.zone("registries.test.", "beta-dns.net.")
    for label in ("", "rdap."):
        zone.add(f"{label}registries.test.", "A", plan.address("Registries"))
    known = {"version": "1.0", "services": [[["test"], ["https://rdap.registries.test/v1/"]]]}
    plan.site(Site("registries.test", "Lab Trust", paths=(("/dns.json", json.dumps(known).encode()),)))
    answers = []
    for domain, registrar in registrars.items():
        card = ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", registrar]]]
        answer = {
            "objectClassName": "domain",
            "ldhName": domain,
            "status": ["client transfer prohibited"],
            "entities": [{"roles": ["registrar"], "vcardArray": card,
                          "publicIds": [{"type": "IANA Registrar ID", "identifier": "9999"}]}],
            "events": [{"eventAction": "expiration", "eventDate": "2031-01-02T03:04:05Z"}],
        }  # fmt: skip
        answers.append((f"/v1/domain/{domain}", json.dumps(answer).encode()))
    plan.site(Site("rdap.registries.test", "Lab Trust", paths=tuple(answers), body=b"{}"))
