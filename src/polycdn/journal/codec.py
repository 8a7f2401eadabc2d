"""Records as lines and back. Pure.

    {"at_ms":..,"body":{..},"hash":"..","kind":"Observed","prev":"..","seq":7,"service":"www"}

Keys sorted, no spaces, UTF-8, no floats; `kind` is the class name of the body; `hash` is the SHA-256 of the
same line without `hash`.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from polycdn.journal.record import (
    Body,
    Decided,
    Entry,
    Failed,
    Published,
    Record,
    Refused,
    Repaired,
    SetAside,
    Snapshot,
    Tip,
    decided,
)
from polycdn.model.event import Configured, Forced, Frozen, Measured, Observed, Quiet, Released, Resumed
from polycdn.model.state import Decision
from polycdn.model.wire import WireError, canonical, from_json, to_json

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer line is refused before it is parsed."""

KINDS: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        Configured,
        Observed,
        Quiet,
        Forced,
        Released,
        Frozen,
        Measured,
        Resumed,
        Decided,
        Failed,
        Published,
        Refused,
        Snapshot,
        Repaired,
        SetAside,
    )
}
FIELDS: Final = {"at_ms", "body", "hash", "kind", "prev", "seq", "service"}


class LineError(ValueError):
    """A line is not a record, or not the one that belongs here; the message says why."""


def encode(entry: Entry, tip: Tip) -> tuple[bytes, Tip]:
    """The line (with its newline) of an entry that follows `tip`, and the tip that it makes."""
    body: Body = decided(entry.body) if isinstance(entry.body, Decision) else entry.body
    unsigned: dict[str, Any] = {
        "at_ms": entry.at_ms,
        "body": to_json(body),
        "kind": type(body).__name__,
        "prev": tip.hash,
        "seq": tip.seq + 1,
        "service": entry.service,
    }
    made = Tip(tip.seq + 1, line_hash(unsigned))
    return canonical(unsigned | {"hash": made.hash}) + b"\n", made


def line_hash(unsigned: dict[str, Any]) -> str:
    """Hex SHA-256 of the canonical line without its `hash`."""
    return hashlib.sha256(canonical(unsigned)).hexdigest()


@dataclass(frozen=True, slots=True)
class Frame:
    """A line whose own hash is right, its body not looked at yet: most of a long journal need not be."""

    seq: int
    prev: str
    hash: str
    at_ms: int
    service: str
    kind: str
    body: Any

    def record(self) -> Record:
        """The whole record. Raises LineError when the body is not what `kind` says."""
        kind = KINDS.get(self.kind)
        if kind is None:
            raise LineError(f"kind {self.kind!r} is unknown: was it written by a newer polycdn?")
        try:
            entry = Entry(self.at_ms, self.service, from_json(kind, self.body, "body"))
        except WireError as error:
            raise LineError(str(error)) from None
        return Record(self.seq, self.prev, self.hash, entry)


def frame(line: bytes) -> Frame:
    """The frame of a line, its own hash checked, its place in the chain not. Raises LineError."""
    raw = _parse(line)
    claimed = raw.pop("hash")
    if claimed != line_hash(raw):
        raise LineError("the hash is not that of the line: it was changed after it was written")
    try:
        return Frame(
            seq=from_json(int, raw["seq"], "seq"),
            prev=from_json(str, raw["prev"], "prev"),
            hash=claimed,
            at_ms=from_json(int, raw["at_ms"], "at_ms"),
            service=from_json(str, raw["service"], "service"),
            kind=from_json(str, raw["kind"], "kind"),
            body=raw["body"],
        )
    except WireError as error:
        raise LineError(str(error)) from None


def decode(line: bytes) -> Record:
    """The record of a line, its own hash checked, its place in the chain not. Raises LineError."""
    return frame(line).record()


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > LINE_BYTES_MAX:
        raise LineError(f"{len(line)} bytes long, limit {LINE_BYTES_MAX}")
    try:
        raw = json.loads(line)
        is_canonical = canonical(raw) == line.removesuffix(b"\n")
    except (ValueError, RecursionError):
        raise LineError("not a line of JSON") from None
    if not isinstance(raw, dict) or set(raw) != FIELDS:
        raise LineError(f"not a record: it needs exactly {', '.join(sorted(FIELDS))}")
    if not is_canonical:
        raise LineError("not in canonical form: it was changed after it was written")
    return raw


def follows(record: Frame, tip: Tip) -> None:
    """Returns when `record` is the one after `tip`; raises LineError saying what is amiss otherwise."""
    if record.seq != tip.seq + 1:
        raise LineError(f"record {tip.seq + 1} should be here, found {record.seq}")
    if record.prev != tip.hash:
        raise LineError(f"its `prev` is not the hash of record {tip.seq}")
