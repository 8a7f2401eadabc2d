"""Numbers for the kinds of edges, so that one sum per site tells which edges the site has. Pure.

A site's edges of one role are added up as numbers of which every sum of two is different (Erdős and Turán,
"On a problem of Sidon in additive number theory", J. London Math. Soc. 16, 1941: 2pk + (k² mod p) for k < p,
p prime). So a single pass that adds integers, in any order and on any number of machines, keeps what a list
of edges would, as long as the site has at most two edges in a role; sites with more are read one by one.
"""

from dataclasses import dataclass
from typing import Final

WORD_BITS: Final = 52
"""Sums are doubles, which take half the room of a sum of 64-bit integers; up to 2^53 they are exact."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where the edges of one role are added up: in which sum, from which bit, and how wide.

    An edge of kind k (1 to `kinds`) adds `number(k) + 2^number_bits`, shifted: the upper bits count edges.
    """

    role: str
    kinds: int
    prime: int
    number_bits: int
    count_bits: int
    word: int = 0
    shift: int = 0

    @property
    def bits(self) -> int:
        """Width of the field."""
        return self.number_bits + self.count_bits

    def number(self, kind: int) -> int:
        """The number of a kind of edge."""
        return 2 * self.prime * kind + kind * kind % self.prime

    def worth(self, kind: int) -> int:
        """What one edge adds to its word."""
        return (self.number(kind) + (1 << self.number_bits)) << self.shift

    def read(self, value: int) -> tuple[int, int]:
        """(how many edges, sum of their numbers) from the field's bits."""
        return value >> self.number_bits, value & ((1 << self.number_bits) - 1)

    def kinds_of(self, value: int) -> tuple[int, ...] | None:
        """The kinds of the edges that made this value, sorted; None when there are more than two."""
        count, total = self.read(value)
        if count == 0:
            return ()
        if count == 1:
            return (total // (2 * self.prime),)
        if count > 2:
            return None
        both = total // (2 * self.prime)
        for first in range(max(1, both - self.kinds), both // 2 + 1):
            if self.number(first) + self.number(both - first) == total:
                return (first, both - first)
        raise AssertionError(f"{total} is no sum of two numbers of role {self.role}")


def fields_of(kinds: dict[str, int], edges_max: int) -> tuple[Field, ...]:
    """A field for each role, packed into words. No sum of up to `edges_max` edges runs over its field."""
    fields: list[Field] = []
    word = shift = 0
    for role, count in kinds.items():
        prime = _prime_above(max(2, count))
        number_bits = (edges_max * (2 * prime * count + prime)).bit_length()
        field = Field(role, count, prime, number_bits, edges_max.bit_length())
        assert field.bits <= WORD_BITS, f"role {role}: {count} kinds of edges do not fit into a sum"
        if shift + field.bits > WORD_BITS:
            word, shift = word + 1, 0
        fields.append(Field(role, count, prime, number_bits, field.count_bits, word, shift))
        shift += field.bits
    return tuple(fields)


def _prime_above(number: int) -> int:
    candidate = number + 1
    while any(candidate % divisor == 0 for divisor in range(2, int(candidate**0.5) + 1)):
        candidate += 1
    return candidate
