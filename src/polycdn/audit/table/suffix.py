"""Names found by how they end, on the borders of labels. Pure."""

import re
from collections.abc import Iterable
from typing import Final

LABELS_MAX: Final = 128
"""A name has no more labels (RFC 1035 §2.3.4)."""


class SuffixIndex:
    """Finds the owners of the longest suffix of a name. `*` in a suffix is any text inside one label."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, tuple[tuple[str, str], ...]] = {}
        self._patterns: dict[int, list[tuple[re.Pattern[str], str, str]]] = {}
        for suffix, owner in pairs:
            if "*" in suffix:
                labels = suffix.count(".") + 1
                self._patterns.setdefault(labels, []).append((pattern_of(suffix), owner, suffix))
            else:
                self._exact[suffix] = (*self._exact.get(suffix, ()), (owner, suffix))

    def find(self, name: str) -> tuple[tuple[str, str], ...]:
        """(owner, suffix) of the longest suffix, () when there is none. A last dot is fine."""
        labels = name.lower().rstrip(".").split(".")
        if len(labels) > LABELS_MAX:
            return ()
        for at in range(len(labels)):
            tail = ".".join(labels[at:])
            found = self._exact.get(tail, ()) + tuple(
                (owner, suffix)
                for pattern, owner, suffix in self._patterns.get(len(labels) - at, ())
                if pattern.fullmatch(tail)
            )
            if found:
                return found
        return ()


def pattern_of(suffix: str) -> re.Pattern[str]:
    """What a suffix with `*` matches: `*` is any text inside one label."""
    return re.compile("[^.]*".join(re.escape(part) for part in suffix.split("*")))
