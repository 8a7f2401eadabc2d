"""An incident file read and checked: TOML in, an `Incident` or every mistake at once out."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Final

from polycdn.errors import ConfigError, Fault
from polycdn.incidents.build import incident_of
from polycdn.incidents.fields import INCIDENT_FIELDS, PHASE_FIELDS, Lines, check_table
from polycdn.incidents.incident import Incident

FILE_BYTES_MAX: Final = 1_048_576
PHASES_MAX: Final = 100
PERIODS_MAX: Final = 2_000


def all_ids() -> tuple[str, ...]:
    """The shipped incidents, by date."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _shipped().iterdir()))


def load(name: str) -> Incident:
    """The shipped incident of that id, or the one in the file at that path. Raises ConfigError."""
    if name in all_ids():
        return parse(_shipped().joinpath(f"{name}.toml").read_bytes(), name)
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        raise _unknown(name)
    return parse(_read(path), str(path))


def parse(content: bytes, place: str) -> Incident:
    """The incident in the bytes of a TOML file; `place` names it in messages. Raises ConfigError."""
    if len(content) > FILE_BYTES_MAX:
        raise _refuse(place, f"{len(content)} bytes", f"at most {FILE_BYTES_MAX} bytes", "shorten the texts")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refuse(
            f"{place}:{line}", "bytes that are not UTF-8", "UTF-8 text", "save the file as UTF-8"
        ) from None
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _refuse(place, f"not TOML: {error}", "a TOML 1.0 file", "mend the syntax there") from None
    return _checked(raw, Lines(place, text))


def _checked(raw: dict[str, Any], lines: Lines) -> Incident:
    faults: list[Fault] = []
    phases = raw.pop("phase", None)
    check_table(raw, INCIDENT_FIELDS, lines.top, faults)
    if not isinstance(phases, list) or not 1 <= len(phases) <= PHASES_MAX:
        found = "none" if phases is None else f"{len(phases) if isinstance(phases, list) else phases!r}"
        faults.append(
            Fault(lines.place, f"phases: {found}", f"1 to {PHASES_MAX} [[phase]] tables", "say what failed")
        )
        phases = []
    for index, phase in enumerate(phases):
        if isinstance(phase, dict):
            check_table(phase, PHASE_FIELDS, lines.phase(index), faults)
        else:
            faults.append(
                Fault(lines.place, f"phase {index + 1}: {phase!r}", "a [[phase]] table", "use [[phase]]")
            )
    if faults:
        raise ConfigError(tuple(faults))
    incident = incident_of(raw, phases)
    faults += _order_faults(incident, lines)
    if faults:
        raise ConfigError(tuple(faults))
    return incident


def _order_faults(incident: Incident, lines: Lines) -> list[Fault]:
    """Moments that contradict one another, and phases that hit nobody."""
    faults = []
    moments = (incident.started_ms, incident.mitigated_ms, incident.resolved_ms)
    if not moments[0] < moments[1] <= moments[2]:
        faults.append(
            Fault(
                lines.top("mitigated"),
                "moments out of order",
                "started before mitigated, mitigated no later than resolved",
                "mend the times, all in UTC",
            )
        )
    for index, phase in enumerate(incident.phases):
        if phase.offset_ms >= incident.duration_ms:
            faults.append(
                Fault(
                    lines.phase(index)("offset_s"),
                    f"a phase that starts {phase.offset_ms // 1000} s after the start",
                    f"before the outage is resolved, {incident.duration_ms // 1000} s after the start",
                    "move the phase, or `resolved`",
                )
            )
        if phase.period_ms and phase.duration_ms > phase.period_ms * PERIODS_MAX:
            faults.append(
                Fault(
                    lines.phase(index)("period_s"),
                    f"a flap of {phase.duration_ms // phase.period_ms} periods",
                    f"at most {PERIODS_MAX} periods",
                    "make the period longer, or say the mean share as http-5xx",
                )
            )
        faults += [
            Fault(
                lines.phase(index)("kinds"),
                f"kind {kind.value}",
                "kinds of the incident: " + ", ".join(each.value for each in incident.kinds),
                "add it to the incident's kinds, or take it out here",
            )
            for kind in phase.kinds
            if kind not in incident.kinds
        ]
    return faults


def _shipped() -> Any:
    return resources.files("polycdn.incidents").joinpath("files")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refuse(
            str(path), error.strerror or "an unreadable file", "a readable incident file", "check the path"
        ) from None


def _refuse(place: str, found: str, allowed: str, remedy: str) -> ConfigError:
    return ConfigError((Fault(place, found, allowed, remedy),))


def _unknown(name: str) -> ConfigError:
    near = [each for each in all_ids() if name and (name in each or each.split("-", 3)[-1] in name)]
    remedy = f"did you mean {near[0]}?" if near else "polycdn incidents lists them"
    return _refuse("incident", repr(name), "an id of a shipped incident, or a path to a .toml file", remedy)
