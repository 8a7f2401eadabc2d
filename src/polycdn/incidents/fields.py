"""What an incident file may hold: one row a field, and the check of a table against its rows."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from polycdn.errors import Fault
from polycdn.incidents.incident import Effect, FaultKind, Kind

SECONDS_MAX: Final = 31_622_400
"""A leap year: longer outages are another kind of problem."""
TEXT_CHARS_MAX: Final = 4_000
ITEMS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Field:
    """One key: whether a value is right, what is allowed (for the message), whether it must be there."""

    is_right: Callable[[Any], bool]
    allowed: str
    is_required: bool = False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_CHARS_MAX


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= ITEMS_MAX and all(_is_text(item) for item in value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_kinds(value: Any) -> bool:
    kinds = set(Kind)
    return (
        isinstance(value, list)
        and 0 < len(value) == len(set(map(str, value)))
        and all(i in kinds for i in value)
    )


def _is_sources(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and set(item) == {"title", "url"} and all(map(_is_text, item.values()))
        for item in value
    )


def moment_ms(value: Any) -> int | None:
    """Milliseconds UTC of `2025-11-18T11:20:00Z` or a TOML date-time with an offset; None if neither."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return int((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _is_moment(value: Any) -> bool:
    return moment_ms(value) is not None


TEXT = Field(_is_text, f"a text of 1 to {TEXT_CHARS_MAX} characters")
TEXTS = Field(_is_texts, f"a list of at most {ITEMS_MAX} texts")
FLAG = Field(_is_flag, "true or false")
MOMENT = Field(_is_moment, 'a moment with its offset, "2025-11-18T11:20:00Z"')
KINDS_ALLOWED = "a list of different words out of " + ", ".join(Kind)

INCIDENT_FIELDS: Final = {
    "id": Field(_is_text, TEXT.allowed, is_required=True),
    "date": TEXT,
    "provider": Field(_is_text, TEXT.allowed, is_required=True),
    "title": Field(_is_text, TEXT.allowed, is_required=True),
    "started": Field(_is_moment, MOMENT.allowed, is_required=True),
    "detected": MOMENT,
    "mitigated": MOMENT,
    "resolved": MOMENT,
    "duration_s": Field(_is_number(1, SECONDS_MAX), f"whole seconds, 1 to {SECONDS_MAX}"),
    "kinds": Field(_is_kinds, KINDS_ALLOWED, is_required=True),
    "effect": Field(lambda value: value in set(Effect), " or ".join(Effect)),
    "summary": TEXT,
    "root_cause": TEXT,
    "slow_recovery": TEXT,
    "services_hit": TEXTS,
    "control_plane_available": FLAG,
    "control_plane_note": TEXT,
    "lessons": TEXTS,
    "sources": Field(_is_sources, "a list of { title = ..., url = ... }"),
    "confidence": TEXT,
}
PHASE_FIELDS: Final = {
    "offset_s": Field(_is_number(0, SECONDS_MAX), f"whole seconds, 0 to {SECONDS_MAX}", is_required=True),
    "duration_s": Field(_is_number(1, SECONDS_MAX), f"whole seconds, 1 to {SECONDS_MAX}", is_required=True),
    "fault": Field(lambda value: value in set(FaultKind), "one of " + ", ".join(FaultKind), is_required=True),
    "share": Field(_is_share, "a number from 0 to 1", is_required=True),
    "period_s": Field(_is_number(2, SECONDS_MAX), f"whole seconds, 2 to {SECONDS_MAX}"),
    "scope": Field(lambda value: _is_text(value) or _is_texts(value), "a text or a list of texts"),
    "kinds": Field(_is_kinds, KINDS_ALLOWED),
    "regions": TEXTS,
    "reach_bp": Field(_is_number(0, 10_000), "basis points, 0 to 10000"),
    "reach_estimated": FLAG,
    "reach_note": TEXT,
    "note": TEXT,
    "estimated": FLAG,
}


class Lines:
    """Where a key stands: `file:line` for messages. Found by reading the text, as tomllib tells no lines."""

    def __init__(self, place: str, text: str) -> None:
        self.place = place
        rows = text.splitlines()
        heads = [row for row, line in enumerate(rows) if re.match(r"\s*\[\[\s*phase\s*\]\]", line)]
        self._parts = [(0, rows[: heads[0]] if heads else rows)]
        for start, end in pairwise([*heads, len(rows)]):
            self._parts.append((start, rows[start:end]))

    def top(self, key: str) -> str:
        """The place of a key outside the phases."""
        return self._at(0, key)

    def phase(self, index: int) -> Callable[[str], str]:
        """The places of keys in the phase of that number, from 0."""
        return lambda key: self._at(index + 1, key)

    def _at(self, part: int, key: str) -> str:
        if part >= len(self._parts):
            return self.place
        start, rows = self._parts[part]
        for row, line in enumerate(rows):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return f"{self.place}:{start + row + 1}"
        return f"{self.place}:{start + 1}"


def check_table(
    raw: dict[str, Any], fields: dict[str, Field], place: Callable[[str], str], faults: list[Fault]
) -> None:
    """Adds a fault for each unknown, missing or wrong key of one table."""
    for key, value in raw.items():
        field = fields.get(key)
        if field is None:
            near = difflib.get_close_matches(key, fields, 1)
            remedy = f"did you mean {near[0]}?" if near else "take it out"
            faults.append(Fault(place(key), f"unknown key {key}", ", ".join(fields), remedy))
        elif not _holds(field, value):
            faults.append(Fault(place(key), f"{key} = {_shown(value)}", field.allowed, f"mend {key}"))
    for key, field in fields.items():
        if field.is_required and key not in raw:
            faults.append(Fault(place(key), f"no {key}", field.allowed, f"add {key}"))


def _holds(field: Field, value: Any) -> bool:
    try:
        return field.is_right(value)
    except TypeError:
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
