"""A journal without a disk, for runs that are not kept: replay, simulation, shadow and tests."""

from collections.abc import Sequence

from polycdn.journal.record import Decided, Entry, decision_digest
from polycdn.model.state import Decision


class MemoryJournal:
    """Keeps the entries (`is_kept`) or forgets them at once."""

    def __init__(self, *, is_kept: bool = True) -> None:
        self._is_kept = is_kept
        self.entries: list[Entry] = []

    @property
    def is_segment_full(self) -> bool:
        """Never: there are no segments."""
        return False

    def append(self, entries: Sequence[Entry]) -> None:
        """Keeps the entries as they are, decisions whole."""
        if self._is_kept:
            self.entries.extend(entries)

    def rotate(self, first_entries: Sequence[Entry]) -> None:
        """Nothing to rotate."""


def digests(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(service, digest) of every decision, in the order of the journal."""
    found = []
    for entry in entries:
        if isinstance(entry.body, Decision):
            found.append((entry.service, decision_digest(entry.body)))
        elif isinstance(entry.body, Decided):
            found.append((entry.service, entry.body.digest))
    return found
