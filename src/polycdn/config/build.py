"""A checked tree as the model's frozen values."""

from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from polycdn.config.build_gate import access_of, limits_of, own_gate
from polycdn.config.loaded import (
    AccessLog,
    Admin,
    AuditHosts,
    Delivery,
    DiskTier,
    EngineRole,
    EngineSpec,
    Listen,
    Loaded,
    ProviderPurge,
    SurfaceKind,
    SurfaceSpec,
    VantageSite,
)
from polycdn.config.schema import (
    CacheTable,
    EndpointTable,
    ObjectTable,
    PolicyTable,
    ProviderTable,
    RegionTable,
    Root,
    ServiceTable,
    SurfaceTable,
    VantageTable,
    ZoneTable,
)
from polycdn.config.schema_purge import PurgeTable
from polycdn.config.schema_reflexes import reflexes_of
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.purge import PurgeDoor
from polycdn.model.settings import CacheRules, Certificate, Forwarded, NameServer, Zone
from polycdn.model.topology import (
    Endpoint,
    Expect,
    ProbedObject,
    Provider,
    ProviderKind,
    Region,
    Service,
    Vantage,
)


def build(root: Root, state_dir: str, sources: tuple[str, ...]) -> Loaded:
    """Everything that the config says. `root` has passed the schema and the rules."""
    return Loaded(
        services=tuple((_service(table, root), _policy(root.policy, table.policy)) for table in root.service),
        engines=tuple(_engine(table) for table in root.surface if table.kind in ("edge", "dns")),
        surfaces=tuple(_surface(table) for table in root.surface if table.kind not in ("edge", "dns")),
        deliveries=tuple(map(_delivery, root.service)),
        vantages=tuple(VantageSite(_vantage(table), table.key_file, table.remote) for table in root.vantage),
        listen=Listen(observations=root.listen.observations),
        audit=AuditHosts(tuple(root.audit.login), tuple(root.audit.status)),
        state_dir=state_dir,
        sources=sources,
        purges=tuple(
            ProviderPurge(table.name, provider.name, _purge(provider.purge))
            for table in root.service
            for provider in _providers(table, root)
            if provider.purge is not None
        ),
        gates=tuple(gate for table in root.service if (gate := own_gate(table)) is not None),
    )


def _service(table: ServiceTable, root: Root) -> Service:
    regions = {region.name: _region(region) for region in root.region}
    mine = tuple(regions[name] for name in table.regions or regions if name in regions)
    names = {region.name for region in mine}
    return Service(
        name=table.name,
        hostname=table.hostname,
        providers=tuple(_provider(provider, table.hostname) for provider in _providers(table, root)),
        origin=_endpoint(table.origin, table.hostname) if table.origin else None,
        objects=tuple(map(_object, table.object)) if table.object else (ProbedObject("/"),),
        regions=mine or (Region(),),
        vantages=tuple(
            _vantage(vantage)
            for vantage in root.vantage
            if not vantage.regions or not names or names & set(vantage.regions)
        ),
        aliases=tuple(table.aliases),
        nameservers=tuple(
            address
            for surface in root.surface
            if surface.kind == "dns" and (not surface.services or table.name in surface.services)
            for address in _asked_at(surface)
        ),
    )


def _asked_at(surface: SurfaceTable) -> list[str]:
    """Where vantages ask a nameserver: as told, or where it listens; wildcards stand for the zone's glue."""
    if surface.asked_at is not None:
        return surface.asked_at
    glue = (
        [address for each in surface.zone.name_servers for address in each.addresses] if surface.zone else []
    )
    found = []
    for listen in surface.dns:
        host, _, port = listen.rpartition(":")
        hosts = [host]
        if ip_address(host.strip("[]")).is_unspecified:
            hosts = [f"[{address}]" if ":" in address else address for address in glue]
        found += [f"{each}:{port}" for each in hosts if port != "0"]
    return found


def _providers(table: ServiceTable, root: Root) -> list[ProviderTable]:
    """The order of `rules_policy.providers_of`."""
    if table.providers is None:
        return table.provider or root.provider
    by_name = {provider.name: provider for provider in (*root.provider, *table.provider)}
    named = [by_name[name] for name in table.providers]
    return named + [provider for provider in table.provider if provider.name not in table.providers]


def _provider(table: ProviderTable, hostname: str) -> Provider:
    return Provider(
        name=table.name,
        kind=ProviderKind(table.kind),
        endpoint=_endpoint(table, hostname),
        company=table.company or table.name,
        cname=table.cname,
        capacity_rps=table.capacity_rps,
        capacity_mbps=table.capacity_mbps,
        cost_micros_per_gib=table.cost_micros_per_gib,
        weight=table.weight,
        floor_bp=table.floor_bp,
        ceiling_bp=table.ceiling_bp,
        regions=tuple(table.regions or ()),
    )


def _purge(table: PurgeTable) -> PurgeDoor:
    return PurgeDoor(
        url=table.url or "",
        method=table.method or ("POST" if table.url else "PURGE"),
        body=table.body,
        header=table.header,
        token_file=table.token_file,
        token_variable=table.token_variable,
        ca_file=table.ca_file,
    )


def _endpoint(table: EndpointTable, hostname: str) -> Endpoint:
    url = urlsplit(table.endpoint or "")
    tls = table.tls if table.tls is not None else url.scheme != "http"
    return Endpoint(
        host=table.host or url.hostname or hostname,
        port=table.port or url.port or (443 if tls else 80),
        tls=tls,
        addresses=tuple(table.addresses or ()),
        ca_file=table.ca_file,
    )


def _object(table: ObjectTable) -> ProbedObject:
    expect = table.expect
    return ProbedObject(
        table.path,
        Expect(
            status=expect.status,
            body_bytes=expect.size_bytes,
            sha256=expect.sha256,
            content_type=expect.content_type,
            headers=tuple(sorted(expect.headers.items())),
            contains=expect.contains,
        ),
    )


def _region(table: RegionTable) -> Region:
    return Region(
        name=table.name,
        prefixes=tuple(table.prefixes),
        countries=tuple(table.countries),
        asns=tuple(table.asns),
        demand_rps=table.demand_rps,
        demand_mbps=table.demand_mbps,
    )


def _vantage(table: VantageTable) -> Vantage:
    return Vantage(table.name, tuple(table.regions or ()), table.source_address, table.resolver)


def _policy(shared: PolicyTable, own: PolicyTable) -> Policy:
    said = shared.model_dump(exclude_none=True) | own.model_dump(exclude_none=True)
    if "rule" in said:
        said["rule"] = Rule(said["rule"])
    if "on_total_loss" in said:
        said["on_total_loss"] = OnTotalLoss(said["on_total_loss"])
    return Policy(**said)


def _delivery(table: ServiceTable) -> Delivery:
    said = table.forwarded
    return Delivery(
        table.name,
        cache=_cache(table.cache) if table.cache.enabled else None,
        forwarded=Forwarded(said.style, is_client_trusted=said.trust_client, has_via=said.via),
        reflexes=reflexes_of(table.reflexes),
    )


def _cache(table: CacheTable) -> CacheRules:
    rules = CacheRules(
        heuristic=table.heuristic,
        negative_ttls=tuple((one.status, one.ttl_s) for one in table.negative),
        query=table.query,
        query_names=tuple(table.query_names),
        stale_while_revalidate_s=table.stale_while_revalidate_s,
        stale_if_error_s=table.stale_if_error_s,
        stale_on_disconnect_s=table.stale_on_disconnect_s,
    )
    if table.object_max_bytes is None:
        return rules
    return replace(rules, object_bytes_max=table.object_max_bytes)


def _engine(table: SurfaceTable) -> EngineSpec:
    log, admin = table.access_log, table.admin
    limits, clients = limits_of(table.limits)
    return EngineSpec(
        name=table.name,
        role=EngineRole(table.kind),
        http=tuple(table.http),
        https=tuple(table.https),
        dns=tuple(table.dns),
        workers=table.workers,
        services=tuple(table.services or ()),
        zone=_zone(table.zone),
        certificates=tuple(Certificate(pair.cert_file, pair.key_file) for pair in table.certificates),
        limits=limits,
        clients=clients,
        access=access_of(table.access),
        memory_bytes=table.memory_bytes,
        disk=DiskTier(table.disk.path, table.disk.size_bytes) if table.disk else None,
        access_log=AccessLog(log.path, log.sample_bp, log.client_prefix) if log else None,
        admin=Admin(admin.listen, admin.token_file) if admin else None,
        drain_s=table.drain_s,
        handover_drain_s=table.handover_drain_s,
    )


def _surface(table: SurfaceTable) -> SurfaceSpec:
    return SurfaceSpec(
        name=table.name,
        kind=SurfaceKind(table.kind),
        services=tuple(table.services or ()),
        path=table.path or "",
        listen=table.listen or "",
        zone=_zone(table.zone),
    )


def _zone(table: ZoneTable | None) -> Zone | None:
    if table is None:
        return None
    return Zone(
        apex=table.apex,
        name_servers=tuple(NameServer(each.name, tuple(each.addresses)) for each in table.name_servers),
        mailbox=table.mailbox,
        refresh_s=table.refresh_s,
        retry_s=table.retry_s,
        expire_s=table.expire_s,
        negative_ttl_s=table.negative_ttl_s,
    )
