"""What each child of `up` is told, from the operator's config. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from polycdn.config.loaded import Delivery, EngineRole, EngineSpec, Loaded, SurfaceSpec, VantageSite
from polycdn.model.settings import Gate, Settings
from polycdn.model.topology import Service
from polycdn.model.wire import to_json
from polycdn.run.decider_spec import DeciderSpec, EngineLink, Steered, SurfaceLink, TrustedVantage
from polycdn.run.layout import Layout
from polycdn.run.vantage import VantageSpec, Watched
from polycdn.surface.settings import settings_for


@dataclass(frozen=True, slots=True)
class LabOptions:
    """What a rehearsal asks for besides: look 0 of every vantage is due at `looks_start_ms`, each look has
    its key in the header `key_header`, and engines end with us."""

    key_header: str
    looks_start_ms: int
    seed: int


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asks for. A shadow decides for itself and touches no surface and no engine."""

    clock: str = "wall"
    is_shadow: bool = False
    stops_engines: bool = False
    lab: LabOptions | None = None


def local_sites(loaded: Loaded) -> tuple[VantageSite, ...]:
    """The vantages that run here and that some service names."""
    named = {vantage.name for service, _ in loaded.services for vantage in service.vantages}
    return tuple(site for site in loaded.vantages if not site.is_remote and site.vantage.name in named)


def engine_config(spec: EngineSpec, layout: Layout) -> dict[str, Any]:
    """The engine's config as docs/engine-protocol.md has it, without `prefer_good` and what is not said."""
    socket = str(layout.engine_socket(spec.name).absolute())
    config: dict[str, Any] = {
        "format": "polycdn/engine/1",
        "engine": spec.name,
        "state_dir": str(layout.state.absolute()),
        "socket": socket,
        "take_over": socket,
        "workers": spec.workers,
        "http": list(spec.http),
        "https": list(spec.https),
        "dns": list(spec.dns),
        "memory_bytes": spec.memory_bytes,
        "drain_s": spec.drain_s,
        "handover_drain_s": spec.handover_drain_s,
    }
    if spec.disk:
        config["disk"] = {"folder": spec.disk.folder, "bytes": spec.disk.size_bytes}
    if log := spec.access_log:
        config["access_log"] = {"file": log.file, "sample_bp": log.sample_bp, "has_prefix": log.has_prefix}
    if spec.access:
        config["access"] = to_json(spec.access)
    if spec.admin:
        config["admin"] = spec.admin.listen
        config["admin_token_file"] = spec.admin.token_file or str(layout.admin_token_file(spec.name))
    return {key: value for key, value in config.items() if value is not None}


def decider_spec(loaded: Loaded, layout: Layout, options: UpOptions, keys: dict[str, str]) -> DeciderSpec:
    """What the decider is told. A shadow hears local vantages only, and leaves the address to the other."""
    return DeciderSpec(
        services=tuple(Steered(service, policy) for service, policy in loaded.services),
        journal_dir=str(layout.journal),
        socket=str(layout.decider_socket),
        engines=tuple(_engine_link(loaded, spec, layout) for spec in loaded.engines),
        surfaces=tuple(_surface_link(loaded, spec, layout) for spec in loaded.surfaces),
        vantages=tuple(TrustedVantage(name, key_file) for name, key_file in keys.items()),
        observations_listen="" if options.is_shadow else loaded.listen.observations,
        observations_socket=str(layout.observations_socket),
        ready_file=str(layout.ready_file),
        clock=options.clock,
        is_shadow=options.is_shadow,
    )


def vantage_spec(
    loaded: Loaded, site: VantageSite, layout: Layout, options: UpOptions, keys: dict[str, str]
) -> VantageSpec:
    """What a local vantage is told: every service that names it."""
    name = site.vantage.name
    return VantageSpec(
        name=name,
        services=tuple(
            Watched(service, policy)
            for service, policy in loaded.services
            if any(vantage.name == name for vantage in service.vantages)
        ),
        report_url=f"unix:{layout.observations_socket}",
        key_file=keys[name],
        clock=options.clock,
        regions=site.vantage.regions,
        source_address=site.vantage.source_address,
        resolver=site.vantage.resolver,
        lab_key_header=options.lab.key_header if options.lab else None,
        start_ms=options.lab.looks_start_ms if options.lab else 0,
        seed=options.lab.seed if options.lab else 0,
    )


def _engine_link(loaded: Loaded, spec: EngineSpec, layout: Layout) -> EngineLink:
    settings = tuple(
        _engine_settings(loaded, service, spec)
        for service, _ in loaded.services
        if not spec.services or service.name in spec.services
    )
    folder, socket = layout.engine_folder(spec.name), layout.engine_socket(spec.name)
    return EngineLink(spec.name, str(folder), str(socket), settings, spec.role.value)


def _engine_settings(loaded: Loaded, service: Service, spec: EngineSpec) -> Settings:
    """A nameserver is not told how edges deliver: its settings stay the same when that changes."""
    is_edge = spec.role is EngineRole.EDGE
    told = loaded.delivery(service.name) if is_edge else Delivery(service.name)
    return settings_for(
        service,
        spec.zone,
        spec.certificates,
        spec.limits,
        cache=told.cache,
        forwarded=told.forwarded,
        reflexes=told.reflexes,
        gate=gate_for(loaded, spec, service.name) if is_edge else Gate(),
    )


def gate_for(loaded: Loaded, spec: EngineSpec, service: str) -> Gate:
    """Who gets in to a service at an edge: what the service says itself, and the edge's limits else."""
    own = loaded.own_gate(service)
    return Gate(replace(spec.clients, **dict(own.limits)), own.access, own.signing)


def _surface_link(loaded: Loaded, spec: SurfaceSpec, layout: Layout) -> SurfaceLink:
    settings: tuple[Settings, ...] = tuple(
        settings_for(service, spec.zone)
        for service, _ in loaded.services
        if not spec.services or service.name in spec.services
    )
    path = spec.path or str(layout.feed_folder(spec.name))
    return SurfaceLink(spec.name, spec.kind.value, settings, path, spec.listen, spec.zone)
