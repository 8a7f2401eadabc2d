"""What a rehearsal is made of: its timeline, the faults of the lab, and the config of the service in it."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from polycdn.incidents import FaultKind as Told
from polycdn.incidents import Incident, Kind, Phase, Until, until_ms, windows
from polycdn.lab.content import PROBE_PATH, probed_objects
from polycdn.lab.fault import FaultKind, Window
from polycdn.lab.rig import Lab, RigSpec
from polycdn.lab.spec import Aim, Answer, LoadSpec, NameserverSpec, Rates
from polycdn.run.clock import Script, Wall
from polycdn.run.rehearse_kind import (
    EDGE_OPERATORS,
    OPERATORS,
    OWN_EDGE,
    Cast,
    cast_of,
    lived,
)

SERVICE: Final = "www"
HOSTNAME: Final = "www.rehearsal.test"
APEX: Final = "rehearsal.test"
NAMESERVER: Final = "nameserver"
CLIENTS: Final = {"single": Aim.PINNED, "threshold": Aim.FILE, "dns": Aim.DNS, "edge": Aim.PINNED}
VANTAGES: Final = ("v1", "v2", "v3")
PROBE_INTERVAL_MS: Final = 10_000
"""On the timeline. The policy is the default one otherwise."""

PROBE_DEADLINE_MS: Final = 1_000
"""Real time."""

THRESHOLD_TTL_S: Final = 60
SUBNETS: Final = tuple(f"198.18.{number}.0/24" for number in range(8))
"""Networks of users, one a resolver; addresses set aside for measurements (RFC 2544)."""

LEAD_WALL_MS: Final = 14_000
"""From the first process to the start of the incident: all must serve by then, and have been looked at."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One rehearsal. `start_ms` is when the incident began, `end_ms` when the rehearsal of it ends (UTC).

    `incident` is the outage as the lab's service meets it; the clients ask at `rates`.
    """

    incident: Incident
    cast: Cast
    rates: Rates
    speed: int
    seed: int
    until: Until
    clock: Script
    work_dir: Path
    lead_wall_ms: int = LEAD_WALL_MS

    @property
    def start_ms(self) -> int:
        """The start of the incident on the timeline."""
        return self.incident.started_ms

    @property
    def end_ms(self) -> int:
        """The end of what is rehearsed on the timeline."""
        return self.start_ms + until_ms(self.incident, self.until)


def setting_of(
    incident: Incident,
    speed: int,
    until: str,
    seed: int,
    work_dir: Path,
    load_percent: int = 100,
    lead_wall_ms: int = LEAD_WALL_MS,
) -> Setting:
    """A rehearsal whose timeline starts a little after now. Raises ConfigError for one that cannot be had."""
    cast = cast_of(incident)
    clock = Script(incident.started_ms, Wall().now_ms() + lead_wall_ms, speed)
    told, rates = lived(incident, cast.kind), rates_of(load_percent)
    return Setting(told, cast, rates, speed, seed, Until(until), clock, work_dir, lead_wall_ms)


def rates_of(load_percent: int) -> Rates:
    """A part of the lab's usual load; of each kind something is asked."""
    usual = Rates()
    return Rates(*(max(1, getattr(usual, each.name) * load_percent // 100) for each in fields(Rates)))


def fault_windows(incident: Incident, until: Until, cast: Cast) -> tuple[Window, ...]:
    """The incident's faults at whoever is sick: the very windows that the simulated world has."""
    return tuple(window for name in cast.sick for window in _windows_at(name, incident, until, cast))


def _windows_at(name: str, incident: Incident, until: Until, cast: Cast) -> tuple[Window, ...]:
    found = []
    for window in windows(incident, until):
        start, end = incident.started_ms + window.start_ms, incident.started_ms + window.end_ms
        if window.failed_ppm:
            kind = cast.injected(_worst_at(incident, window.start_ms))
            found.append(Window(name, start, end, kind, window.failed_ppm))
        if window.slow_ppm and cast.kind is not Kind.DNS:
            found.append(Window(name, start, end, FaultKind.SLOW_FIRST_BYTE, window.slow_ppm))
    return tuple(found)


def _worst_at(incident: Incident, offset_ms: int) -> Told:
    """What the worst phase at that moment does."""

    def weight(phase: Phase) -> int:
        return phase.share_ppm * phase.reach_bp

    running = [
        phase
        for phase in incident.phases
        if phase.offset_ms <= offset_ms < phase.end_ms and phase.fault is not Told.SLOW
    ]
    return max(running, key=weight).fault


def rig_of(setting: Setting) -> RigSpec:
    """The lab: origins and CDNs, or clouds, and places for our edge and nameserver."""
    cast = setting.cast
    return RigSpec(
        str(setting.work_dir),
        HOSTNAME,
        setting.clock.spec,
        cdns=cast.cdns,
        clouds=cast.clouds,
        origins=0 if cast.clouds else 2,
        also=(OWN_EDGE, NAMESERVER),
        seed=setting.seed,
        windows=fault_windows(setting.incident, setting.until, cast),
    )


def operator_specs(setting: Setting, lab: Lab) -> tuple[NameserverSpec, ...]:
    """The DNS operators that clients ask, if there are any.

    Answers are kept for no time, so that every request is a lookup: a kept answer hides the outage for a
    minute at most.
    """
    return tuple(
        NameserverSpec(
            lab.process(name),
            "127.0.0.1:0",
            (Answer(HOSTNAME, (_answered(setting, lab, name),), ttl_s=0),),
            str(lab.faults_file),
            lab.file(name, ".faults"),
        )
        for name in setting.cast.operators
    )


def _answered(setting: Setting, lab: Lab, operator: str) -> str:
    return lab.places.address(OWN_EDGE if operator in EDGE_OPERATORS else setting.cast.pinned)


def write_config(setting: Setting, lab: Lab) -> Path:
    """The `polycdn.toml` of the service in the lab, as an operator would write it."""
    path = setting.work_dir / "polycdn.toml"
    path.write_text(config_text(setting, lab))
    return path


def config_text(setting: Setting, lab: Lab) -> str:
    """The config's text: providers in the order of the cast."""
    certificate = lab.certificate(OWN_EDGE, HOSTNAME)
    parts = [
        f"state_dir = {_quoted(setting.work_dir / 'state')}",
        '[listen]\nobservations = "127.0.0.1:0"',
        f"[policy]\nprobe_interval_ms = {PROBE_INTERVAL_MS}\nprobe_deadline_ms = {PROBE_DEADLINE_MS}",
        *(_provider_text(lab, name) for name in setting.cast.providers),
        *(f"[[vantage]]\nname = {_quoted(name)}" for name in VANTAGES),
        _service_text(lab),
        f"""[[surface]]
name = "edge"
kind = "edge"
https = [{_quoted(lab.places.listen(OWN_EDGE))}]

[[surface.certificates]]
cert_file = {_quoted(certificate.cert_file)}
key_file = {_quoted(certificate.key_file)}""",
        f"""[[surface]]
name = "dns"
kind = "dns"
dns = [{_quoted(lab.places.listen(NAMESERVER))}]
zone = {{ apex = {_quoted(APEX)}, name_servers = ["ns1.{APEX}"], mailbox = "hostmaster@{APEX}" }}""",
    ]
    return "\n\n".join(parts) + "\n"


def _provider_text(lab: Lab, name: str) -> str:
    kind = "edge" if name == OWN_EDGE else "cloud" if name in lab.spec.clouds else "cdn"
    return f"""[[provider]]
name = {_quoted(name)}
kind = "{kind}"
host = {_quoted(HOSTNAME)}
addresses = [{_quoted(lab.places.address(name))}]
port = {lab.places.port}
ca_file = {_quoted(lab.ca_file)}"""


def _service_text(lab: Lab) -> str:
    probe = next(each for each in probed_objects(lab.spec.content) if each.path == PROBE_PATH)
    return f"""[[service]]
name = "{SERVICE}"
hostname = "{HOSTNAME}"
{_origin_text(lab)}
[[service.object]]
path = {_quoted(probe.path)}
expect = {{ size_bytes = {probe.expect.body_bytes}, sha256 = {_quoted(probe.expect.sha256)} }}"""


def _origin_text(lab: Lab) -> str:
    """Nothing where the providers are the origins."""
    if not lab.spec.origins:
        return ""
    origin = lab.origin(1)
    where = f"addresses = [{_quoted(origin.addresses[0])}]"
    return f'origin = {{ endpoint = "http://{HOSTNAME}:{origin.port}", {where} }}\n'


def _quoted(value: object) -> str:
    return json.dumps(str(value))


def client_specs(setting: Setting, lab: Lab) -> tuple[LoadSpec, ...]:
    """The load of the four clients, from the start of the incident to the end of the rehearsal."""
    return tuple(
        replace(
            LoadSpec(
                lab.process(client),
                aim,
                HOSTNAME,
                lab.places.port,
                lab.ca_file,
                lab.file(client, ".requests"),
                lab.spec.content,
                setting.rates,
                subnets=SUBNETS,
                start_ms=setting.start_ms,
                stop_ms=setting.end_ms,
                seed=setting.seed,
            ),
            **_aimed(setting, lab, client, aim),
        )
        for client, aim in CLIENTS.items()
    )


def _aimed(setting: Setting, lab: Lab, client: str, aim: Aim) -> dict[str, Any]:
    """How one client learns whom to ask."""
    if setting.cast.operators:
        return {"aim": Aim.DNS, "nameservers": _operators_of(lab, client)}
    if aim is Aim.FILE:
        return {"target_file": str(target_file(setting)), "target_ttl_s": THRESHOLD_TTL_S}
    if aim is Aim.DNS:
        return {"nameservers": (lab.places.listen(NAMESERVER),)}
    return {"address": lab.places.address(OWN_EDGE if client == "edge" else setting.cast.pinned)}


def _operators_of(lab: Lab, client: str) -> tuple[str, ...]:
    """`single` has one operator, the others two; the second one of `dns` is our own nameserver."""
    first, second = (lab.running(name).listen for name in (EDGE_OPERATORS if client == "edge" else OPERATORS))
    others = {"single": (), "dns": (lab.places.listen(NAMESERVER),)}
    return (first, *others.get(client, (second,)))


def target_file(setting: Setting) -> Path:
    """Where the `threshold` client finds the address that its failover chose."""
    return setting.work_dir / "threshold.target"
