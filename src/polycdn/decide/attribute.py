"""Whose fault it is: the same object, at about the same time, through every provider and from the origin
directly.

| this provider | origin | others | whose fault | may it go DOWN |
|---|---|---|---|---|
| in doubt | in the same doubt | any | ORIGIN, or DNS | no |
| failing far beyond the origin | in doubt | any | PROVIDER, or DNS | yes |
| in doubt | good, or not seen | one at least is good | PROVIDER, or DNS | yes |
| in doubt | good, or not seen | all in the same doubt, not all alarmed yet | UNKNOWN | not yet |
| in doubt | good, or not seen | all alarmed | UNKNOWN | yes |
| in doubt | good | there are none | PROVIDER, or DNS | yes |
| in doubt | not seen | there are none | UNKNOWN | yes |
| one vantage alone alarmed | | the same vantage, for all | VANTAGE | no |

"In the same doubt" is a quarter of the evidence at least: what fails together gathers evidence at one
pace, but in no fixed order, so a provider must not be left a moment before the origin's own alarm.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from polycdn.decide.agree import Opinion
from polycdn.decide.layout import Seat
from polycdn.model.state import Standing
from polycdn.model.verdict import Blame, Status

SAME_DOUBT_PARTS: Final = 4
"""One in the same doubt as another has this part of its evidence at least."""

HINT_PARTS: Final = 7
"""Before robust evidence has gathered, a recent failure or two of the origin, or of all others,
(`Opinion.hint_bp`) count so many times: an alarm comes at a moment when a provider had more bad luck than
others with the same fault."""

DOUBT_BP: Final = 2_500
"""First doubt: this far on the way to an alarm."""


class Finding(NamedTuple):
    """Whose fault the doubt about one provider is; `is_held`: no reason to leave it."""

    blame: Blame
    is_held: bool


CLEAR: Final = Finding(Blame.NOBODY, False)


def attribute(
    seat: Seat,
    opinion: Opinion,
    origin: Opinion,
    opinions: Sequence[Opinion],
    standings: Sequence[Standing],
) -> Finding:
    """The finding for one seat, among all seats' opinions and past standings; `origin` is that of its
    region."""
    if opinion.progress_bp < DOUBT_BP:
        return _alone(seat, opinion, origin, opinions) if opinion.minority else CLEAR
    at_fault = Blame.DNS if opinion.blame is Blame.DNS else Blame.PROVIDER
    if origin.has_quorum:
        if opinion.excess_mnat >= opinion.limits.excess:
            return Finding(at_fault, False)
        if _shares_doubt(origin, opinion, is_hint_enough=True):
            is_dns = opinion.blame is origin.blame is Blame.DNS
            return Finding(Blame.DNS if is_dns else Blame.ORIGIN, True)
    others = [at for at in seat.others if opinions[at].has_quorum]
    if any(not _is_failing(opinions[at], standings[at], opinion, len(others) > 1) for at in others):
        return Finding(at_fault, False)
    if origin.has_quorum and not others:
        return Finding(at_fault, False)
    is_total = all(standings[at].status is Status.DOWN or opinions[at].is_alarmed for at in others)
    return Finding(Blame.DNS if opinion.blame is Blame.DNS else Blame.UNKNOWN, not is_total)


def _shares_doubt(other: Opinion, opinion: Opinion, is_hint_enough: bool) -> bool:
    """Whether the other is in the same doubt, by robust evidence or, where that is enough, by a hint."""
    if other.progress_bp * SAME_DOUBT_PARTS >= opinion.progress_bp:
        return True
    return is_hint_enough and other.hint_bp * HINT_PARTS >= opinion.progress_bp


def _is_failing(other: Opinion, standing: Standing, opinion: Opinion, is_hint_enough: bool) -> bool:
    return standing.status is Status.DOWN or _shares_doubt(other, opinion, is_hint_enough)


def _alone(seat: Seat, opinion: Opinion, origin: Opinion, opinions: Sequence[Opinion]) -> Finding:
    """A minority that says DOWN: its own fault if it says so of everything it looks at."""
    compared = [opinions[at] for at in seat.others if opinions[at].has_quorum]
    if origin.has_quorum:
        compared.append(origin)
    is_everywhere = bool(compared) and all(set(opinion.minority) <= set(other.minority) for other in compared)
    return Finding(Blame.VANTAGE if is_everywhere else Blame.UNKNOWN, False)
