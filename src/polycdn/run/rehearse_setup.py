"""What a rehearsal is made of: its timeline, the faults of the lab, and the config of the service in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.incidents import FaultKind as Told
from polycdn.incidents import Incident, Phase, Until, until_ms, windows
from polycdn.lab.content import PROBE_PATH, probed_objects
from polycdn.lab.fault import FaultKind, Window
from polycdn.lab.rig import Lab, RigSpec
from polycdn.lab.spec import Aim, LoadSpec
from polycdn.run.clock import Script, Wall

SERVICE: Final = "www"
HOSTNAME: Final = "www.rehearsal.test"
APEX: Final = "rehearsal.test"
SICK: Final = "cdn-a"
OWN_EDGE: Final = "own-edge"
NAMESERVER: Final = "nameserver"
PROVIDERS: Final = (SICK, "cdn-b", OWN_EDGE)
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

INJECTED: Final = {
    Told.HTTP_5XX: FaultKind.HTTP_5XX,
    Told.FLAP: FaultKind.HTTP_5XX,
    Told.CONNECT_REFUSED: FaultKind.REFUSE,
    Told.TIMEOUT: FaultKind.HANG,
    Told.TLS_FAILURE: FaultKind.TLS,
    Told.DNS_SERVFAIL: FaultKind.REFUSE,
    Told.DNS_EMPTY: FaultKind.REFUSE,
    Told.SLOW: FaultKind.SLOW_FIRST_BYTE,
}
"""How the lab shows each fault at the provider; a name that does not resolve is an address not reached."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One rehearsal. `start_ms` is when the incident began, `end_ms` when the rehearsal of it ends (UTC)."""

    incident: Incident
    speed: int
    seed: int
    until: Until
    clock: Script
    work_dir: Path

    @property
    def start_ms(self) -> int:
        """The start of the incident on the timeline."""
        return self.incident.started_ms

    @property
    def end_ms(self) -> int:
        """The end of what is rehearsed on the timeline."""
        return self.start_ms + until_ms(self.incident, self.until)


def setting_of(incident: Incident, speed: int, until: str, seed: int, work_dir: Path) -> Setting:
    """A rehearsal whose timeline starts a little after now."""
    clock = Script(incident.started_ms, Wall().now_ms() + LEAD_WALL_MS, speed)
    return Setting(incident, speed, seed, Until(until), clock, work_dir)


def fault_windows(incident: Incident, until: Until) -> tuple[Window, ...]:
    """The incident's faults at the sick provider: the very windows that the simulated world has."""
    found = []
    for window in windows(incident, until):
        start, end = incident.started_ms + window.start_ms, incident.started_ms + window.end_ms
        if window.failed_ppm:
            kind = _kind_at(incident, window.start_ms)
            found.append(Window(SICK, start, end, kind, window.failed_ppm))
        if window.slow_ppm:
            found.append(Window(SICK, start, end, FaultKind.SLOW_FIRST_BYTE, window.slow_ppm))
    return tuple(found)


def _kind_at(incident: Incident, offset_ms: int) -> FaultKind:
    """How the worst phase at that moment fails."""

    def weight(phase: Phase) -> int:
        return phase.share_ppm * phase.reach_bp

    running = [
        phase
        for phase in incident.phases
        if phase.offset_ms <= offset_ms < phase.end_ms and phase.fault is not Told.SLOW
    ]
    return INJECTED[max(running, key=weight).fault]


def rig_of(setting: Setting) -> RigSpec:
    """The lab: two origins, two CDNs, and places for our edge and nameserver."""
    return RigSpec(
        str(setting.work_dir),
        HOSTNAME,
        setting.clock.spec,
        cdns=PROVIDERS[:2],
        also=(OWN_EDGE, NAMESERVER),
        seed=setting.seed,
        windows=fault_windows(setting.incident, setting.until),
    )


def write_config(setting: Setting, lab: Lab) -> Path:
    """The `polycdn.toml` of the service in the lab, as an operator would write it."""
    path = setting.work_dir / "polycdn.toml"
    path.write_text(config_text(setting, lab))
    return path


def config_text(setting: Setting, lab: Lab) -> str:
    """The config's text: `cdn-a` preferred, then `cdn-b`, then the own edge."""
    certificate = lab.certificate(OWN_EDGE, HOSTNAME)
    parts = [
        f"state_dir = {_quoted(setting.work_dir / 'state')}",
        '[listen]\nobservations = "127.0.0.1:0"',
        f"[policy]\nprobe_interval_ms = {PROBE_INTERVAL_MS}\nprobe_deadline_ms = {PROBE_DEADLINE_MS}",
        *(_provider_text(lab, name) for name in PROVIDERS),
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
    kind = "edge" if name == OWN_EDGE else "cdn"
    return f"""[[provider]]
name = {_quoted(name)}
kind = "{kind}"
host = {_quoted(HOSTNAME)}
addresses = [{_quoted(lab.places.address(name))}]
port = {lab.places.port}
ca_file = {_quoted(lab.ca_file)}"""


def _service_text(lab: Lab) -> str:
    probe = next(each for each in probed_objects(lab.spec.content) if each.path == PROBE_PATH)
    origin = lab.origin(1)
    return f"""[[service]]
name = "{SERVICE}"
hostname = "{HOSTNAME}"
origin = {{ endpoint = "http://{HOSTNAME}:{origin.port}", addresses = [{_quoted(origin.addresses[0])}] }}

[[service.object]]
path = {_quoted(probe.path)}
expect = {{ size_bytes = {probe.expect.body_bytes}, sha256 = {_quoted(probe.expect.sha256)} }}"""


def _quoted(value: object) -> str:
    return json.dumps(str(value))


def client_specs(setting: Setting, lab: Lab) -> tuple[LoadSpec, ...]:
    """The load of the four clients, from the start of the incident to the end of the rehearsal."""
    pinned = {"single": lab.places.address(SICK), "edge": lab.places.address(OWN_EDGE)}
    return tuple(
        LoadSpec(
            lab.process(client),
            aim,
            HOSTNAME,
            lab.places.port,
            lab.ca_file,
            lab.file(client, ".requests"),
            lab.spec.content,
            address=pinned.get(client),
            target_file=str(target_file(setting)) if aim is Aim.FILE else None,
            target_ttl_s=THRESHOLD_TTL_S,
            nameservers=(lab.places.listen(NAMESERVER),) if aim is Aim.DNS else (),
            subnets=SUBNETS,
            start_ms=setting.start_ms,
            stop_ms=setting.end_ms,
            seed=setting.seed,
        )
        for client, aim in CLIENTS.items()
    )


def target_file(setting: Setting) -> Path:
    """Where the `threshold` client finds the address that its failover chose."""
    return setting.work_dir / "threshold.target"
