"""What could not be seen, as findings: never fine. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from polycdn.audit.carriers import configured_hosts, origins
from polycdn.audit.case import Case
from polycdn.audit.evidence import DnsStatus, Role, Unseen
from polycdn.audit.finding import Finding
from polycdn.audit.names import name_of_host
from polycdn.model.address import is_address

SUBJECTS_SHOWN = 8
ENDED = (DnsStatus.NOERROR, DnsStatus.NXDOMAIN)


def unseen(case: Case) -> Iterator[Finding]:
    """Everything about the service and its dependencies that was looked at in vain or not at all."""
    mine = _names_below(case)
    groups: dict[tuple[str, str], list[str]] = {}
    for each in case.view.evidence.unseen:
        if _belongs(each, mine, case):
            groups.setdefault((each.what, each.why), []).append(each.subject)
    for (what, why), subjects in groups.items():
        if len(subjects) == 1:
            yield case.unseen(subjects[0], what, why)
        else:
            yield _together(case, what, why, subjects)
    for host in case.hosts:
        yield from _gaps(case, host)


def _together(case: Case, what: str, why: str, subjects: list[str]) -> Finding:
    """One finding for the same of many: a table of networks that is missing is one thing to mend."""
    shown = ", ".join(subject.rstrip(".") for subject in subjects[:SUBJECTS_SHOWN])
    more = f" and {len(subjects) - SUBJECTS_SHOWN} more" if len(subjects) > SUBJECTS_SHOWN else ""
    one = case.unseen(case.service, what, why)
    return replace(
        one,
        what=f"{what} of {len(subjects)} could not be looked at: {why}. It may be fine, and it may not.",
        evidence=(f"{shown}{more}: {what}: {why}",),
    )


def _names_below(case: Case) -> set[str]:
    found = {*case.hosts}
    for host in case.hosts:
        found |= {*configured_hosts(case.view, host), *origins(case.view, host)}
    found |= {
        t.name
        for t in case.view.evidence.asked
        if not t.depth and not t.parent and t.role is not Role.SERVICE
    }
    queue = list(found)
    while queue:
        for child in case.view.evidence.children(queue.pop()):
            if child.name not in found:
                found.add(child.name)
                queue.append(child.name)
    return found


def _belongs(each: Unseen, mine: set[str], case: Case) -> bool:
    if each.subject in mine or each.what.startswith("dns"):
        return each.subject in mine or any(name.endswith("." + each.subject) for name in mine)
    host = name_of_host(urlsplit(each.subject).hostname or "") if "://" in each.subject else None
    if host is not None:
        return host in mine
    if is_address(each.subject):
        return any(each.subject in case.view.addresses(name) for name in mine)
    return False


def _gaps(case: Case, host: str) -> Iterator[Finding]:
    """Looks that are not there at all, and that nothing was said about."""
    view = case.view
    said = {(each.subject, each.what.split()[0]) for each in view.evidence.unseen}
    if not view.is_address_seen(host) and (host, "dns") not in said:
        yield case.unseen(host, "addresses", "no look-up of them is in the evidence")
    if view.operators(host) is None and not {(host, "dns"), (host, "zone")} & said:
        yield case.unseen(host, "DNS operators", "no nameservers of its zone are in the evidence")
    if view.is_address_seen(host) and not view.addresses(host) and not view.chain(host):
        yield case.unseen(host, "carriers", "the name has no address")
    elif view.addresses(host) and not case.carriages[host].is_seen:
        yield case.unseen(host, "carriers", "neither the names nor the addresses say whose they are")
    if view.addresses(host) and not view.evidence.tls(host) and (host, "tls") not in said:
        yield case.unseen(host, "certificate", "no handshake is in the evidence")
    if (
        not view.pages.get(host)
        and not _redirects(case, host)
        and not {(host, "page"), (host, "http")} & said
    ):
        yield case.unseen(host, "page", "no page is in the evidence")
    if _zone_caa(case, host) is None and (host, "dns") not in said:
        yield case.unseen(host, "CAA", "no look-up of it is in the evidence")


def _redirects(case: Case, host: str) -> bool:
    return any(look.location or 300 <= look.code < 400 for look in case.view.answers.get(host, ()))


def _zone_caa(case: Case, host: str) -> bool | None:
    look = case.view.evidence.dns(host, "CAA")
    return None if look is None or look.status not in ENDED else bool(look.values)
