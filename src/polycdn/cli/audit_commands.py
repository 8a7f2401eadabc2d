"""`polycdn audit`: what services depend on, and where their redundancy is one basket."""
# ruff: noqa: E501

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polycdn.cli.state import JsonOption, print_json
from polycdn.errors import ConfigError, Fault, UnavailableError

if TYPE_CHECKING:
    from polycdn.audit.browser import Browser
    from polycdn.audit.collect import Asked, Means
    from polycdn.audit.evidence import Evidence, PageLook
    from polycdn.audit.findings import Audit

LOGIN = "login of the operators"
STATUS = "status page"
SEVERITIES = ("critical", "high", "medium", "low", "unknown")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("audit")(audit)


@dataclass(frozen=True)
class _Sources:
    """What to look at, and with what."""

    domains: Sequence[str]
    config: str | None
    logins: Sequence[str]
    statuses: Sequence[str]
    har: Path | None
    zone: Path | None
    evidence: Path | None
    save: Path | None
    depth: int
    budget: int
    deadline: int
    places: Path | None
    roots: Sequence[str]
    ca_file: str | None
    networks: Path | None
    resolver: str | None
    is_browsed: bool


def audit(
    domains: Annotated[list[str] | None, typer.Argument(metavar="[DOMAIN...]", help="What to audit.")] = None,
    config: Annotated[str | None, typer.Option("--config", "-c", metavar="FILE", help="Audit this config's services, with their providers and origins.")] = None,
    login: Annotated[list[str] | None, typer.Option("--login", metavar="HOST", help="A host where operators log in (repeatable).")] = None,
    status: Annotated[list[str] | None, typer.Option("--status", metavar="HOST", help="The host of the status page (repeatable).")] = None,
    har: Annotated[Path | None, typer.Option("--har", metavar="FILE", help="Pages as a browser recorded them.")] = None,
    zone: Annotated[Path | None, typer.Option("--zone", metavar="FILE", help="A zone file, read instead of asking its servers.")] = None,
    evidence: Annotated[Path | None, typer.Option("--evidence", metavar="FILE", help="Look nothing up: read what an earlier audit kept.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Where the evidence is kept; default: DOMAIN.evidence.jsonl here.")] = None,
    depth: Annotated[int, typer.Option("--depth", min=0, max=8, help="How far down dependencies are followed.")] = 3,
    budget: Annotated[int, typer.Option("--budget", min=1, max=1_000_000, help="Look-ups for one domain.")] = 4_000,
    deadline: Annotated[int, typer.Option("--deadline", min=1, max=86_400, help="Seconds for one domain.")] = 120,
    users: Annotated[int, typer.Option("--users", min=1, max=10**10, help="Users at one moment, for the estimates.")] = 1_000,
    ttl: Annotated[int, typer.Option("--ttl", min=0, max=2**31 - 1, help="The longest TTL in seconds with which you can leave in time.")] = 300,
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as one HTML page.")] = None,
    fail_on: Annotated[str | None, typer.Option("--fail-on", metavar="SEVERITY", help="Exit code 1 from this severity on: critical, high, medium, low, unknown.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of --json and end.")] = False,
    places: Annotated[Path | None, typer.Option("--places", metavar="FILE", help="Where to connect instead (a lab): lines of address:port address:port.")] = None,
    root: Annotated[list[str] | None, typer.Option("--root", metavar="ADDRESS", help="Root nameservers of a lab (repeatable).")] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", metavar="FILE", help="Trust these CAs instead of the usual ones.")] = None,
    networks: Annotated[Path | None, typer.Option("--networks", metavar="FILE", help="The table of networks; default: that of polycdn data import.")] = None,
    resolver: Annotated[str | None, typer.Option("--resolver", metavar="ADDRESS[:PORT]", help="Ask this resolver, where the network lets nothing else through; TTLs stay unknown.")] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Load pages in a headless Chromium too: what scripts load is seen.")] = False,
) -> int:  # fmt: skip
    """Show what a service depends on, where its redundancy is one basket, and what to do about it.

    What is looked up is kept as evidence; --evidence reads it again, offline, with the same findings. Exit code 0;
    1 when there is a finding of --fail-on or worse; 2 when the input is wrong. Example:
    polycdn audit example.com --html report.html --fail-on high
    """
    from polycdn.audit.report import as_object
    from polycdn.audit.report import schema as schema_of

    if schema:
        print_json(schema_of())
        return 0
    if fail_on is not None and fail_on not in SEVERITIES:
        raise _fault("--fail-on", repr(fail_on), ", ".join(SEVERITIES), "choose one of them")
    sources = _Sources(
        domains or (), config, login or (), status or (), har, zone, evidence, save, depth, budget, deadline, places,
        root or (), ca_file, networks, resolver, browser,
    )  # fmt: skip
    found = _audited(_evidence(sources), users, ttl)
    version = _version()
    if html is not None:
        from polycdn.cli.audit_page import page

        _write(html, page(as_object(found, version)))
    if as_json:
        print_json(as_object(found, version))
    else:
        from rich.console import Console

        from polycdn.cli.audit_text import print_audit

        print_audit(found, Console())
    if fail_on is None:
        return 0
    rank = SEVERITIES.index(fail_on)
    return 1 if any(SEVERITIES.index(str(each.severity)) <= rank for each in found.findings) else 0


def _audited(evidence: "Evidence", users: int, ttl_s: int) -> "Audit":
    from polycdn.audit.case import Bounds
    from polycdn.audit.findings import audit_of

    return audit_of(evidence, bounds=Bounds(ttl_s=ttl_s), users=users)


def _evidence(sources: _Sources) -> "Evidence":
    """Read from the file, or looked up and kept."""
    from polycdn.audit.evidence import evidence_of
    from polycdn.audit.evidence_file import read_evidence, write_evidence
    from polycdn.audit.har import read_har

    pages = read_har(sources.har) if sources.har else ()
    if sources.evidence is not None:
        if sources.domains or sources.zone or sources.save or sources.config:
            raise _fault(
                "--evidence", "it beside domains, --config, --zone or --save", "--evidence alone, or with --har",
                "leave the others out: everything is read from the file",
            )  # fmt: skip
        read = read_evidence(sources.evidence)
        return evidence_of((*read.facts, *pages), read.started_ms, read.tool_version) if pages else read
    asked = _asked(sources)
    place = sources.save or Path(f"{asked[0].name.rstrip('.')}.evidence.jsonl")
    found = _collected(asked, _means(sources, pages))
    try:
        write_evidence(found, place)
    except OSError as error:
        raise UnavailableError(f"{place} cannot be written: {error.strerror or error}") from None
    typer.echo(f"evidence kept in {place}", err=True)
    return found


def _asked(sources: _Sources) -> "list[Asked]":
    from polycdn.audit.collect import Asked
    from polycdn.audit.evidence import Role

    asked = [Asked(_name(text, "domain")) for text in sources.domains]
    asked += asked_of_config(sources.config) if sources.config else []
    if not any(each.role is Role.SERVICE for each in asked):
        raise _fault("audit", "no domain", "DOMAIN..., --config or --evidence", "say what to audit")
    asked += [Asked(_name(text, "--login"), Role.IDENTITY, LOGIN) for text in sources.logins]
    asked += [Asked(_name(text, "--status"), Role.STATUS, STATUS) for text in sources.statuses]
    return list(dict.fromkeys(asked))


def asked_of_config(config: str) -> "list[Asked]":
    """The services of a config, with the end points of their providers and their origins."""
    from polycdn.audit.carriers import AT, ORIGIN_OF, PROVIDER_OF
    from polycdn.audit.collect import Asked
    from polycdn.audit.evidence import Role
    from polycdn.audit.names import name_of_host
    from polycdn.config.load import load

    asked = []
    loaded = load(config)
    for service, _ in loaded.services:
        name = _name(service.hostname, f"{config}: service {service.name}")
        asked.append(Asked(name, Role.SERVICE))
        for provider in service.providers:
            host = name_of_host(provider.cname or provider.endpoint.host)
            said = f"{PROVIDER_OF}{name}: {provider.name}"
            if host and host != name:
                asked.append(Asked(host, Role.CDN, said, server_name=name))
            elif provider.endpoint.addresses:
                asked.append(Asked(name, Role.CDN, f"{said}{AT}{provider.endpoint.addresses[0]}"))
        origin = name_of_host(service.origin.host) if service.origin else None
        if origin and origin != name:
            asked.append(Asked(origin, Role.CLOUD, f"{ORIGIN_OF}{name}"))
    asked += [Asked(_name(host, config), Role.IDENTITY, LOGIN) for host in loaded.audit.logins]
    asked += [Asked(_name(host, config), Role.STATUS, STATUS) for host in loaded.audit.statuses]
    return asked


def _means(sources: _Sources, pages: "tuple[PageLook, ...]") -> "Means":
    from polycdn.audit.collect import Means
    from polycdn.audit.networks import default_table
    from polycdn.audit.places import Places, read_places
    from polycdn.audit.purse import Limits
    from polycdn.audit.resolve import ROOTS
    from polycdn.audit.zonefile import read_zone
    from polycdn.run.clock import Wall

    return Means(
        Wall(),
        Limits(depth=sources.depth, lookups=sources.budget, seconds=sources.deadline),
        read_places(sources.places) if sources.places else Places(),
        tuple(sources.roots) or ROOTS,
        ca_file=sources.ca_file,
        networks=sources.networks or default_table(),
        zones=(read_zone(sources.zone),) if sources.zone else (),
        pages=pages,
        forwarder=_resolver(sources.resolver) if sources.resolver else None,
        browser=_browser() if sources.is_browsed else None,
    )


def _resolver(text: str) -> tuple[str, int]:
    from ipaddress import ip_address

    address, _, port = text.rpartition(":") if text.count(":") == 1 or "]" in text else (text, "", "53")
    try:
        place = (str(ip_address(address.strip("[]"))), int(port))
    except ValueError:
        place = ("", 0)
    if not 0 < place[1] < 65_536:
        raise _fault(
            "--resolver", repr(text[:80]), "ADDRESS or ADDRESS:PORT", "name the address of a resolver"
        )
    return place


def _browser() -> "Browser":
    from polycdn.audit.browser import find_browser

    found = find_browser()
    if found is None:
        raise UnavailableError("--browser: there is no Chromium on this machine; leave the option out")
    return found


def _collected(asked: "Sequence[Asked]", means: "Means") -> "Evidence":
    """The look-ups, with a progress bar where a person waits."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from polycdn.audit.collect import collect_evidence

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("looking", total=len(asked))
        return asyncio.run(
            collect_evidence(
                asked, means, _version(),
                lambda now: bar.update(task, completed=now.done, description=f"looking, {now.facts} facts"),
            )
        )  # fmt: skip


def _name(text: str, place: str) -> str:
    from polycdn.audit.names import canonical_name

    try:
        name = canonical_name(text.removeprefix("https://").removeprefix("http://").rstrip("/"))
    except ValueError as error:
        raise _fault(place, f"{text[:80]!r}: {error}", "a domain name", "mend it") from None
    if name.count(".") < 2 or "/" in name or ":" in name:
        raise _fault(place, repr(text[:80]), "a domain name such as example.com", "mend it")
    return name


def _write(place: Path, text: str) -> None:
    try:
        place.write_text(text, "utf-8")
    except OSError as error:
        raise UnavailableError(f"{place} cannot be written: {error.strerror or error}") from None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("polycdn")
    except PackageNotFoundError:
        return "unknown"


def _fault(place: str, found: str, allowed: str, remedy: str) -> ConfigError:
    return ConfigError((Fault(place, found, allowed, remedy),))
