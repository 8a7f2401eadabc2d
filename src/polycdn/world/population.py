"""What is assumed of users. Every number is a parameter; docs/simulation.md says where it comes from."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Population:
    """How users reach the service. Shares are basis points of the users.

    `overstay_bp` use a resolver that keeps answers for at least `overstay_s`, whatever their TTL says.
    `kept_bp` are in a session of `session_s` whose connection they keep, so that they move only after it.
    `unrepeatable_bp` of the requests must not be sent twice (a POST without a key): no reflex saves these.
    `resolver_users_bp` use the one public resolver that fails in a resolver's outage, and no other.
    `certificate_late_bp` of the certificates are renewed only when they expire, then every
    `certificate_retry_s`. `dns_retry_ms` is what asking the other name server costs one lookup.
    """

    overstay_bp: int = 874
    overstay_s: int = 300
    kept_bp: int = 5_000
    session_s: int = 150
    unrepeatable_bp: int = 100
    resolver_users_bp: int = 400
    certificate_days: int = 90
    certificate_late_bp: int = 120
    certificate_retry_s: int = 43_200
    dns_retry_ms: int = 376

    @staticmethod
    def default() -> "Population":
        """The public, as far as it was measured."""
        return Population()

    @staticmethod
    def lab() -> "Population":
        """The lab's clients obey every TTL, and each request is a new connection that may be repeated."""
        return Population(overstay_bp=0, kept_bp=0, unrepeatable_bp=0)

    def habits(self) -> tuple["Habit", ...]:
        """The classes of users that keep an answer for different times."""
        found = []
        for over_bp, floor_s in ((self.overstay_bp, self.overstay_s), (10_000 - self.overstay_bp, 0)):
            for kept_bp, linger_s in ((self.kept_bp, self.session_s), (10_000 - self.kept_bp, 0)):
                if over_bp * kept_bp:
                    found.append(Habit(over_bp * kept_bp, floor_s, linger_s))
        return tuple(found)

    def assumptions(self) -> dict[str, int]:
        """The numbers by name, for the output."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Habit:
    """`parts` of 10^8 users keep an answer for the TTL, at least `floor_s`, and then `linger_s` longer."""

    parts: int
    floor_s: int
    linger_s: int

    def hold_s(self, ttl_s: int) -> int:
        """How long after a lookup these users use its answer."""
        return max(1, ttl_s, self.floor_s) + self.linger_s
