"""Evidence as a file and back: a header line, then one fact a line, as canonical JSON.

    {"kind":"polycdn-evidence","started":"2026-11-27T14:00:00.000Z","tool_version":"0.1.0","version":1}
    {"kind":"dns","name":"example.com.","records":[..],"rtype":"NS","status":"NOERROR"}

Keys sorted, no spaces, fields at their default left out. The order of the fact lines means nothing.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from polycdn.audit.evidence import (
    DnsLook,
    Evidence,
    Fact,
    HttpLook,
    NetworkLook,
    PageLook,
    RegistrationLook,
    Target,
    TlsLook,
    Unseen,
    evidence_of,
)
from polycdn.audit.names import is_canonical
from polycdn.errors import ConfigError, Fault
from polycdn.model.wire import WireError, canonical, from_json, to_json

KIND: Final = "polycdn-evidence"
VERSION: Final = 1
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer line is refused before it is parsed."""
FILE_BYTES_MAX: Final = 1024 * 1024 * 1024
FAULTS_MAX: Final = 20
"""After so many bad lines the rest of a file is not read."""

KINDS: Final[dict[str, type]] = {
    "target": Target,
    "dns": DnsLook,
    "tls": TlsLook,
    "http": HttpLook,
    "page": PageLook,
    "network": NetworkLook,
    "registration": RegistrationLook,
    "unseen": Unseen,
}
KIND_OF: Final = {made: kind for kind, made in KINDS.items()}
_REMEDY: Final = "restore the file, or run the audit again"


class LineError(ValueError):
    """A line is no fact; the message says why."""


def header_line(started_ms: int, tool_version: str) -> bytes:
    """The first line of a file, with its newline."""
    started = datetime.fromtimestamp(started_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return (
        canonical(
            {
                "kind": KIND,
                "version": VERSION,
                "tool_version": tool_version,
                "started": started.replace("+00:00", "Z"),
            }
        )
        + b"\n"
    )


def line_of(fact: Fact) -> bytes:
    """The line of a fact, with its newline."""
    return canonical({"kind": KIND_OF[type(fact)], **to_json(fact)}) + b"\n"


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Writes the file anew, whole or not at all. Raises OSError."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(header_line(evidence.started_ms, evidence.tool_version))
        file.writelines(line_of(fact) for fact in evidence.facts)
    beside.replace(path)


def read_evidence(path: Path) -> Evidence:
    """What a file holds. Raises ConfigError with every bad line (the first 20), each with its place."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError((_too_large(path),))
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(
            (Fault(str(path), found, "a readable evidence file", "name another file"),)
        ) from None


def parse_evidence(content: bytes, place: str) -> Evidence:
    """What the bytes of a file hold; `place` names them in messages. Raises ConfigError."""
    return _parsed(content.splitlines(keepends=True), place)


def fact_of(line: bytes) -> Fact:
    """The fact of a line. Raises LineError."""
    raw = _object(line)
    kind = raw.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise LineError(f"kind {kind!r} is none of {', '.join(KINDS)}"[:200])
    try:
        fact: Fact = from_json(KINDS[kind], raw, kind)
        canonical(fact)
    except (WireError, UnicodeError, RecursionError) as error:
        raise LineError(str(error)[:300]) from None
    for name in _names_in(fact):
        if not is_canonical(name):
            raise LineError(f"{name[:100]!r} is no name in lower case, in A-labels, with its last dot")
    return fact


def _read(file: BinaryIO, place: str) -> Evidence:
    return _parsed(iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""), place)


def _parsed(lines: Iterable[bytes], place: str) -> Evidence:
    started_ms, tool_version = 0, ""
    facts: list[Fact] = []
    faults: list[Fault] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        if len(line) > LINE_BYTES_MAX:
            faults.append(_bad(place, number, "a longer line", f"at most {LINE_BYTES_MAX} bytes a line"))
            break
        try:
            if number == 1:
                started_ms, tool_version = _header(line)
            elif line.strip():
                facts.append(fact_of(line))
        except LineError as error:
            faults.append(_bad(place, number, str(error), "one line of polycdn evidence, version 1"))
            if number == 1 or len(faults) == FAULTS_MAX:
                break
    if number == 0:
        faults.append(_bad(place, 1, "an empty file", "a header line, then facts"))
    if faults:
        raise ConfigError(tuple(faults))
    return evidence_of(facts, started_ms, tool_version)


def _header(line: bytes) -> tuple[int, str]:
    raw = _object(line)
    if raw.get("kind") != KIND:
        raise LineError(f"no header line of kind {KIND!r}")
    if raw.get("version") != VERSION or isinstance(raw["version"], bool):
        raise LineError(f"version {str(raw.get('version'))[:40]}")
    started, tool_version = raw.get("started"), raw.get("tool_version", "")
    if not isinstance(started, str) or not isinstance(tool_version, str):
        raise LineError("a header without started and tool_version as text")
    try:
        moment = datetime.fromisoformat(started)
        started_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise LineError(f"started {started[:40]!r} is no moment of RFC 3339") from None
    return started_ms, tool_version


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"no JSON: {str(error)[:100]}") from None
    if not isinstance(raw, dict):
        raise LineError("no JSON object")
    return raw


def _names_in(fact: Fact) -> tuple[str, ...]:
    match fact:
        case Target():
            return (fact.name, fact.parent) if fact.parent else (fact.name,)
        case DnsLook():
            return (fact.name,)
        case TlsLook():
            return (fact.host,)
        case RegistrationLook():
            return (fact.domain,)
        case _:
            return ()


def _bad(place: str, number: int, found: str, allowed: str) -> Fault:
    return Fault(f"{place}:{number}", found, allowed, _REMEDY)


def _too_large(path: Path) -> Fault:
    return Fault(
        str(path), f"{path.stat().st_size} bytes", f"at most {FILE_BYTES_MAX} bytes", "audit fewer names"
    )
