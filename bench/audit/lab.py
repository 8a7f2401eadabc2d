"""Serves a small internet with many domains until its input ends; prints where it is as one line of JSON.

python bench/audit/lab.py --domains 1000 --delay-ms 50 --directory DIR
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from polycdn.lab.internet.plan import Plan, Site
from polycdn.lab.internet.world import Internet
from polycdn.run.clock import Wall

OPERATORS, CDNS, AUTHORITIES, HOSTINGS, PARTIES, MAILS = 10, 6, 3, 20, 20, 3


def plan_of(domains: int) -> Plan:
    """Domains that share operators, CDNs, authorities and third parties, as those of the web do."""
    plan = Plan()
    operators = [plan.operator(f"dns{number}.net.").domain for number in range(OPERATORS)]
    trusts = [
        plan.authority(f"Trust {number}", f"trust{number}.net.", operators[number]).name
        for number in range(AUTHORITIES)
    ]
    edges = [
        (plan.zone(f"cdn{number}.net.", operators[number]), plan.address(f"CDN {number}"))
        for number in range(CDNS)
    ]
    parties = []
    for number in range(PARTIES):
        zone = plan.zone(f"party{number}.net.", operators[number % OPERATORS])
        zone.add(f"s.party{number}.net.", "A", plan.address(f"Party {number}"))
        plan.site(Site(f"s.party{number}.net", trusts[number % AUTHORITIES], body=b"1"))
        parties.append(f"s.party{number}.net")
    for number in range(MAILS):
        zone = plan.zone(f"mail{number}.net.", operators[number])
        zone.add(f"mx.mail{number}.net.", "A", plan.address(f"Mail {number}"))
    hostings = [plan.address(f"Hosting {number}") for number in range(HOSTINGS)]
    for number in range(domains):
        origin = f"shop{number}.test."
        zone = plan.zone(origin, operators[number % OPERATORS])
        zone.add(origin, "A", hostings[number % HOSTINGS])
        zone.add(origin, "MX", f"10 mx.mail{number % MAILS}.net.")
        edge, address = edges[number % CDNS]
        zone.add(f"www.{origin}", "CNAME", f"shop{number}.{edge.origin}")
        edge.add(f"shop{number}.{edge.origin}", "A", address, 30)
        loads = [parties[(number + step) % PARTIES] for step in range(3)]
        body = "".join(f'<script src="https://{host}/t.js"></script>' for host in loads) + "<p>hello" * 2_000
        trust = trusts[number % AUTHORITIES]
        plan.site(Site(origin[:-1], trust, location=f"https://www.{origin[:-1]}/"))
        plan.site(Site(f"www.{origin[:-1]}", trust, headers=(("server", "edge"),), body=body.encode()))
    return plan


async def serve(domains: int, delay_ms: int, directory: Path) -> None:
    plan = plan_of(domains)
    (directory / "networks.csv").write_text(plan.networks_csv())
    async with Internet(plan, Wall(), directory, delay_ms=delay_ms) as world:
        places = [[*seen, *real] for seen, real in world.places.items()]
        print(json.dumps({"places": places, "roots": world.roots, "ca_file": world.ca_file}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=1_000)
    parser.add_argument("--delay-ms", type=int, default=50)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.domains, given.delay_ms, given.directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
