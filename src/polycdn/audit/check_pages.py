"""Findings about what pages load from others. Pure."""
# ruff: noqa: E501

from collections.abc import Iterator

from polycdn.audit.build import host_id, loads_from, provider_id
from polycdn.audit.carriers import carriage, third_parties
from polycdn.audit.case import Case
from polycdn.audit.domains import is_same_site
from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.audit.graph import listed
from polycdn.audit.names import host_of


def blocking(case: Case) -> Iterator[Finding]:
    """Hosts of others that block rendering, have no fallback, and are reached in one way only."""
    told = set()
    for own in case.hosts:
        for host in third_parties(case.view, own):
            loads = [each for each in loads_from(case.view, own, host) if each.blocking and not each.fallback]
            found = carriage(case.view, host)
            if not loads or host in told or is_same_site(host, own):
                continue
            told.add(host)
            operators = case.view.operators(host)
            if len(found.parallel) > 1 and operators is not None and len(operators) > 1:
                continue
            if not found.is_seen and operators is None:
                yield case.unseen(
                    host, "redundancy of a third party that blocks rendering", "nothing of it was seen"
                )
                continue
            carriers = found.serial or found.parallel or operators or ()
            names = listed(party.name for party in carriers)
            owner = case.view.table.by_host(host)
            title = case.view.table.providers[owner[0][0]].name if owner else host_of(host)
            yield case.finding(
                Kind.BLOCKING, Severity.HIGH, host, f"pages wait for {title}",
                f"{host_of(own)} draws nothing until {host_of(host)} has answered or given up, and only {names} leads "
                f"there: {len(loads)} resource{'s' if len(loads) > 1 else ''} without a fallback.",
                "serve the file yourself (with the same integrity hash), or load it with async or defer, or give it a "
                "fallback",
                tuple(f"{each.kind} {each.url}" for each in loads[:4]),
                (*(provider_id(party.id) for party in carriers), host_id(host)), role="third-party",
            )  # fmt: skip
