"""The lab internet of lab_internet.txt: builds each of its services, faulty or sound, by its number.

All services live in one internet: own root, DNS operators that share nothing, two authorities, CDNs under the
names of real ones (so that the provider table knows their owners), on real sockets.
"""

from dataclasses import dataclass, field

from polycdn.audit.collect import Asked
from polycdn.audit.evidence import Role
from polycdn.lab.internet.plan import Plan, Site

ALPHA, BETA, GAMMA = "alpha-dns.net.", "beta-dns.org.", "gamma-dns.com."
LEFT, RIGHT = "left-dns.net.", "right-dns.org."
"""Two operators whose own zones both lie at GAMMA."""
FAR_LEFT, FAR_RIGHT = "far-left-dns.net.", "far-right-dns.org."
"""Two operators whose zones lie at MID_LEFT and MID_RIGHT, whose zones both lie at GAMMA."""
MID_LEFT, MID_RIGHT = "mid-left-dns.net.", "mid-right-dns.org."
OWN_LEFT, OWN_RIGHT = "own-left-dns.net.", "own-right-dns.org."
"""Two operators whose zones lie at ALPHA and at BETA."""
NEAR, NEXT_DOOR = "near-dns.net.", "next-door-dns.org."
"""Two operators in one network."""
ONE, TRUST = "One Trust", "Two Trust"


@dataclass
class World:
    """The internet while it is being built."""

    plan: Plan = field(default_factory=Plan)

    def __post_init__(self):
        plan = self.plan
        for domain in (ALPHA, BETA, GAMMA):
            plan.operator(domain)
        for domain in (LEFT, RIGHT, MID_LEFT, MID_RIGHT):
            plan.operator(domain, hosted_by=GAMMA)
        plan.operator(FAR_LEFT, hosted_by=MID_LEFT)
        plan.operator(FAR_RIGHT, hosted_by=MID_RIGHT)
        plan.operator(OWN_LEFT, hosted_by=ALPHA)
        plan.operator(OWN_RIGHT, hosted_by=BETA)
        plan.operator(NEAR, network="One Building")
        plan.operator(NEXT_DOOR, network="One Building")
        plan.authority(ONE, "one-trust.net.", ALPHA)
        plan.authority(TRUST, "two-trust.org.", BETA)
        for domain, operator in (("cdn-x.net.", ALPHA), ("cdn-y.org.", BETA), ("cdn-z.com.", ALPHA)):
            plan.zone(domain, operator)
        for domain, operator in (
            *(("cdn-left.net.", LEFT), ("cdn-right.org.", RIGHT)),
            *(("cdn-near.net.", NEAR), ("cdn-next.org.", NEXT_DOOR)),
        ):
            plan.zone(domain, operator)
        plan.zone("tags.net.", ALPHA)
        plan.zone("twin-tags.net.", ALPHA, BETA)

    def shop(
        self, number, *, dns=(ALPHA, BETA), addresses=2, ttl_s=300, ns_ttl_s=3_600, caa=(), caa_at="", **site
    ):
        """A service `<number>.test` that is sound but for what is asked for; gives its name."""
        name = f"{number}.test."
        zone = self.plan.zone(name, *dns, ttl_s=ns_ttl_s)
        for at in range(addresses):
            address = self.plan.address(f"Hosting {len(self.plan.networks)}")
            zone.add(name, "A", address, ttl_s)
            if at % 2:
                self.plan.authority_at[address] = ONE if site.get("authority") == TRUST else TRUST
        for issuer in caa:
            zone.add(caa_at or name, "CAA", f'0 issue "{issuer}"')
        self.plan.site(Site(name[:-1], site.pop("authority", ONE), **site))
        return name

    def end_point(self, host, network, authority=ONE, **site):
        """Where a provider takes a service's traffic: `host` in one of the CDNs' zones."""
        zone = self.plan.zones[host.partition(".")[2]]
        zone.add(host, "A", self.plan.address(network), 30)
        self.plan.site(Site(host[:-1], authority, **site))
        return host

    def zone(self, origin, *operators):
        """A zone, made once."""
        return self.plan.zones.get(origin) or self.plan.zone(origin, *operators)

    def alias(self, number, target, network, ttl_s=60):
        """A service that is an alias of a name at a provider."""
        name = self.shop(number, addresses=0)
        www = f"www.{name}"
        self.plan.zones[name].add(www, "CNAME", target, ttl_s)
        self.plan.zones[target.partition(".")[2]].add(target, "A", self.plan.address(network), 30)
        self.plan.site(Site(www[:-1], ONE))
        return www

    def page(self, number, html):
        """A service with a page."""
        return self.shop(number, body=f"<!doctype html><html><head>{html}</head><body><p>hello".encode())


def carried_by(name, *hosts):
    """The service, and the end points that a config would name for it."""
    return [Asked(name), *(Asked(host, Role.CDN, f"provider of {name}: {host}") for host in hosts)]


def tag(world, label, zone="tags.net.", networks=1):
    """A third party's host."""
    host = f"{label}.{zone}"
    for at in range(networks):
        world.plan.zones[zone].add(host, "A", world.plan.address(f"Tags {label} {at}"))
    world.plan.site(Site(host[:-1], ONE, body=b"1", content_type="text/javascript"))
    return host[:-1]


def pair(world, number, left, right):
    """A service with two configured end points: (host, network, authority) each."""
    name = world.shop(number)
    return carried_by(name, world.end_point(*left), world.end_point(*right))


def grouped(world, number):
    """Nameservers in two domains with one owner, which their SOA records tell."""
    plan = world.plan
    plan.operator(f"{number}-names.net.")
    plan.operator(f"{number}-names.org.")
    for top in ("net.", "org."):
        zone = plan.zones[f"{number}-names.{top}"]
        soa = next(each for each in zone.records if each.rtype == "SOA")
        zone.records.remove(soa)
        zone.add(
            zone.origin, "SOA", f"master.{number}-names.net. host.{number}-names.net. 1 7200 900 1209600 300"
        )
    return world.shop(number, dns=(f"{number}-names.net.", f"{number}-names.org."))


def route53(world, number):
    """Four nameservers of one company in four top-level domains."""
    domains = [
        f"awsdns-{at}{number[1:]}.{top}" for at, top in ((1, "com."), (2, "net."), (3, "org."), (4, "co.uk."))
    ]
    for domain in domains:
        world.plan.operator(domain)
    return world.shop(number, dns=tuple(domains))


def company_dns(world, number, dns, target, others=()):
    """DNS at a known company, traffic at a known CDN."""
    for domain in dns:
        if domain not in world.plan.operators:
            world.plan.operator(domain)
    world.zone(target.partition(".")[2], ALPHA, BETA)
    name = world.shop(number, dns=dns, addresses=0)
    if others:
        return carried_by(
            name, *(world.end_point(host, network, authority) for host, network, authority in others)
        )
    www = f"www.{name}"
    world.plan.zones[name].add(www, "CNAME", target, 60)
    world.plan.zones[target.partition(".")[2]].add(target, "A", world.plan.address(target), 30)
    world.plan.site(Site(www[:-1], ONE))
    return [Asked(www)]


def origin_at(world, number, host, address=""):
    """A service whose config names an origin."""
    name = world.shop(number)
    top = host.partition(".")[2]
    world.zone(top, ALPHA, BETA).add(host, "A", address or world.plan.address("Origins"))
    return [Asked(name), Asked(host, Role.CLOUD, f"origin of {name}")]


def beside(world, number, role, dns, network=""):
    """A service, and a login or status page with DNS of its own."""
    name = world.shop(number, dns=(ALPHA,) if role in ("identity", "status") else (ALPHA, BETA))
    other = f"{role}-{number}.test."
    zone = world.plan.zone(other, *dns)
    for _ in range(2):
        zone.add(other, "A", world.plan.address(network or f"Login {len(world.plan.networks)}"))
    world.plan.site(Site(other[:-1], TRUST))
    return [Asked(name), Asked(other, Role(role), f"{role} of the config")]


def real_pair(world, number, left, right):
    """A service with end points under the names of two real CDNs."""
    for host, operator in ((left, ALPHA), (right, BETA)):
        world.zone(host.partition(".")[2], operator)
    return pair(world, number, (left, f"Net of {left}", ONE), (right, f"Net of {right}", TRUST))


BLOCKS = '<script src="https://{}/t.js"></script>'

BUILD = {
    # DNS operators
    "f01": lambda w, n: w.shop(n, dns=(ALPHA,)),
    "f02": grouped,
    "f03": route53,
    "f04": lambda w, n: w.shop(n, dns=(LEFT, RIGHT)),
    "f05": lambda w, n: w.shop(n, dns=(FAR_LEFT, FAR_RIGHT)),
    "f06": lambda w, n: w.shop(n, dns=(NEAR, NEXT_DOOR)),
    "f07": lambda w, n: w.shop(n, dns=(ALPHA,), ns_ttl_s=172_800),
    "d01": lambda w, n: w.shop(n),
    "d02": lambda w, n: w.shop(n, dns=(ALPHA, GAMMA)),
    "d03": lambda w, n: w.shop(n, dns=(ALPHA, BETA, GAMMA)),
    "d04": lambda w, n: w.shop(n, dns=(OWN_LEFT, OWN_RIGHT)),
    "d05": lambda w, n: w.shop(n, dns=(ALPHA, RIGHT)),
    "d06": lambda w, n: w.shop(n, dns=(NEAR, BETA)),
    "d07": lambda w, n: w.shop(n, ns_ttl_s=86_400),
    # pairs of carriers
    "f08": lambda w, n: pair(w, n, (f"{n}.cdn-x.net.", "Net X", ONE), (f"{n}.cdn-z.com.", "Net Z", TRUST)),
    "f09": lambda w, n: pair(
        w, n, (f"{n}.cdn-x.net.", "Same Net", ONE), (f"{n}.cdn-y.org.", "Same Net", TRUST)
    ),
    "f10": lambda w, n: real_pair(w, n, f"{n}.wscdns.com.", f"{n}.cdngc.net."),
    "f11": lambda w, n: real_pair(w, n, f"{n}.netlify.app.", f"{n}.vercel.app."),
    "f12": lambda w, n: pair(w, n, (f"{n}.cdn-x.net.", "Net X", ONE), (f"{n}.cdn-y.org.", "Net Y", ONE)),
    "f13": lambda w, n: real_pair(w, n, f"{n}.github.io.", f"{n}.pantheonsite.io."),
    "f15": lambda w, n: pair(
        w, n, (f"{n}.cdn-left.net.", "Net L", ONE), (f"{n}.cdn-right.org.", "Net R", TRUST)
    ),
    "f28": lambda w, n: pair(
        w, n, (f"{n}.cdn-near.net.", "Net N", ONE), (f"{n}.cdn-next.org.", "Net O", TRUST)
    ),
    "d08": lambda w, n: pair(w, n, (f"{n}.cdn-x.net.", "Net X", ONE), (f"{n}.cdn-y.org.", "Net Y", TRUST)),
    "d09": lambda w, n: real_pair(w, n, f"{n}.fastly.net.", f"{n}.b-cdn.net."),
    "d10": lambda w, n: real_pair(w, n, f"{n}.fastly.net.", f"{n}.edgekey.net."),
    "d11": lambda w, n: pair(w, n, (f"{n}.cdn-y.org.", "Net Y", TRUST), (f"{n}.cdn-z.com.", "Net Z", ONE)),
    "d12": lambda w, n: w.shop(n, addresses=3),
    # one carrier
    "f14": lambda w, n: w.alias(n, f"{n}.cdn-x.net.", "Net X"),
    # certificates
    "f16": lambda w, n: w.shop(n, days=3),
    "f17": lambda w, n: w.shop(n, days=-2),
    "f18": lambda w, n: w.shop(n, is_stapling=False),
    "f19": lambda w, n: w.shop(n, caa=("one-trust.net",)),
    "f20": lambda w, n: w.shop(n, caa=("digicert.com", "geotrust.com")),
    "d13": lambda w, n: w.shop(n, days=60),
    "d14": lambda w, n: w.shop(n, days=30, authority=TRUST),
    "d15": lambda w, n: w.shop(n, caa=("one-trust.net", "two-trust.org")),
    "d16": lambda w, n: w.shop(n, caa=("digicert.com", "letsencrypt.org")),
    # leaving in time
    "f21": lambda w, n: w.shop(n, ttl_s=86_400),
    "f22": lambda w, n: w.shop(n, ttl_s=900),
    "d17": lambda w, n: w.shop(n, ttl_s=300),
    "d18": lambda w, n: w.shop(n, ttl_s=20),
    # the apex
    "f23": lambda w, n: w.shop(n, addresses=1, dns=(ALPHA, GAMMA)),
    "d19": lambda w, n: w.shop(n, addresses=2, dns=(BETA, GAMMA)),
    # consoles, logins, status pages
    "f24": lambda w, n: company_dns(w, n, ("cloudflare.com.",), f"{n}.cdn.cloudflare.net."),
    "f25": lambda w, n: beside(w, n, "identity", (ALPHA,)),
    "f26": lambda w, n: beside(w, n, "status", (ALPHA, BETA)),
    "d20": lambda w, n: sound_beside(w, n, "identity"),
    "d21": lambda w, n: sound_beside(w, n, "status"),
    # pages
    "f27": lambda w, n: w.page(n, BLOCKS.format(tag(w, n))),
    "d22": lambda w, n: w.page(n, BLOCKS.format(tag(w, n)).replace("src", "async src")),
    "d23": lambda w, n: w.page(
        n, BLOCKS.format(tag(w, n)) + "<script>window.t || document.write('<script src=/t.js>')</script>"
    ),
    "d24": lambda w, n: w.page(n, BLOCKS.format(tag(w, n, "twin-tags.net.", networks=2))),
    "d25": lambda w, n: w.page(n, f"<!-- {BLOCKS.format(tag(w, n))} -->"),
    "d26": lambda w, n: w.page(n, BLOCKS.format(f"{n}.test")),
    "d27": lambda w, n: w.page(n, f'<link rel="stylesheet" media="print" href="https://{tag(w, n)}/s.css">'),
    "d28": lambda w, n: w.page(n, f'<script type="module" src="https://{tag(w, n)}/m.js"></script>'),
    # origins
    "f29": lambda w, n: origin_at(w, n, f"{n}.cfargotunnel.com."),
    "f30": lambda w, n: origin_at(w, n, f"{n}.origins.net.", "10.1.2.3"),
    "d29": lambda w, n: origin_at(w, n, f"{n}.origins.net."),
    "d30": lambda w, n: w.page(
        n, f'<link rel="stylesheet" href="https://{tag(w, n)}/s.css" onerror="own()">'
    ),
}


def sound_beside(world, number, role):
    """A service at two operators, and a login or status page that shares neither."""
    name = world.shop(number)
    other = f"{role}-{number}.test."
    zone = world.plan.zone(other, GAMMA)
    for _ in range(2):
        zone.add(other, "A", world.plan.address(f"Login {len(world.plan.networks)}"))
    world.plan.site(Site(other[:-1], TRUST))
    return [Asked(name), Asked(other, Role(role), f"{role} of the config")]


def built():
    """The internet with all services, and what is asked for to audit each: {number: names}."""
    world = World()
    asked = {}
    for number, build in BUILD.items():
        made = build(world, number)
        asked[number] = [Asked(made)] if isinstance(made, str) else made
    return world.plan, asked
