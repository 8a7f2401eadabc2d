"""The operator's word: who is forced where, until when, and what is refused.

A later word on the same provider and region replaces the earlier one; a word on everywhere replaces all
words on that provider; a word on one region goes before a word on everywhere.
"""

from typing import Final

from polycdn.decide.words import span, utc
from polycdn.model.event import Forced, Frozen, Released, Stance
from polycdn.model.plan import Note, Severity
from polycdn.model.topology import Service

FORCE_MAX_MS: Final = 72 * 3_600_000
"""A word that outlives a long weekend is forgotten by whoever gave it."""

SAID: Final = {Stance.UP: "forced up", Stance.DOWN: "forced down", Stance.DRAIN: "drained"}

Words = tuple[Forced, ...]
Notes = tuple[Note, ...]


def with_forced(forced: Words, event: Forced, service: Service, now_ms: int) -> tuple[Words, Notes]:
    """The words in force after one more, or the same ones and a note that says why it was refused."""
    refusal = _refusal(event, service, now_ms)
    if refusal:
        return forced, (Note(Severity.WARNING, "force_refused", f"service {service.name}: {refusal}"),)
    kept = tuple(word for word in forced if not _replaces(event, word))
    text = (
        f"service {service.name}: {event.provider} is {SAID[event.stance]} {_where(event.region)} "
        f"until {utc(event.until_ms)}{_by(event.by, event.why)}"
    )
    return (*kept, event), (Note(Severity.INFO, "forced", text),)


def with_released(forced: Words, event: Released, service: Service) -> tuple[Words, Notes]:
    """The words that remain when one is taken back; a note when there was none."""
    kept = tuple(
        word
        for word in forced
        if word.provider != event.provider or (event.region is not None and word.region != event.region)
    )
    subject = f"service {service.name}: {event.provider}"
    where = _where(event.region)
    if len(kept) == len(forced):
        return forced, (Note(Severity.INFO, "release_idle", f"{subject} was not forced {where}"),)
    return kept, (Note(Severity.INFO, "released", f"{subject} is no longer forced {where}{_by(event.by)}"),)


def unexpired(forced: Words, service: Service, now_ms: int) -> tuple[Words, Notes]:
    """The words still in force, and a note for each that has just run out."""
    if all(now_ms < word.until_ms for word in forced):
        return forced, ()
    kept = tuple(word for word in forced if now_ms < word.until_ms)
    notes = tuple(
        Note(
            Severity.INFO,
            "force_expired",
            f"service {service.name}: {word.provider} is no longer {SAID[word.stance]} "
            f"{_where(word.region)}; that ran out at {utc(word.until_ms)}",
        )
        for word in forced
        if now_ms >= word.until_ms
    )
    return kept, notes


def word_on(forced: Words, provider: str, region: str) -> Forced | None:
    """The word that counts for a provider in a region; None if there is none."""
    everywhere = None
    for word in forced:
        if word.provider == provider:
            if word.region == region:
                return word
            if word.region is None:
                everywhere = word
    return everywhere


def stance_of(forced: Words, provider: str, region: str) -> Stance | None:
    """What the operator said of a provider in a region; None if nothing."""
    if not forced:
        return None
    word = word_on(forced, provider, region)
    return None if word is None else word.stance


def frozen_note(event: Frozen, service: Service, now_ms: int) -> Note:
    """What a freeze or thaw means, in a sentence."""
    if event.until_ms <= now_ms:
        return Note(Severity.INFO, "thawed", f"service {service.name}: plans change again{_by(event.by)}")
    severity = Severity.WARNING if event.until_ms - now_ms > FORCE_MAX_MS else Severity.INFO
    text = (
        f"service {service.name}: frozen for {span(event.until_ms - now_ms)}, until {utc(event.until_ms)}: "
        f"no plan changes, not even when a provider is lost{_by(event.by, event.why)}"
    )
    return Note(severity, "frozen", text)


def _refusal(event: Forced, service: Service, now_ms: int) -> str:
    if event.provider not in [provider.name for provider in service.providers]:
        return f"cannot force {event.provider}: no such provider"
    if event.region is not None and event.region not in [region.name for region in service.regions]:
        return f"cannot force {event.provider} in {event.region}: no such region"
    if event.until_ms <= now_ms:
        return f"{event.provider} would be {SAID[event.stance]} until {utc(event.until_ms)}, which is over"
    if event.until_ms - now_ms > FORCE_MAX_MS:
        return (
            f"{event.provider} would be {SAID[event.stance]} for {span(event.until_ms - now_ms)}, "
            f"limit {span(FORCE_MAX_MS)}"
        )
    return ""


def _replaces(event: Forced, word: Forced) -> bool:
    return word.provider == event.provider and event.region in (None, word.region)


def _where(region: str | None) -> str:
    return "everywhere" if region is None else f"in {region}"


def _by(by: str, why: str = "") -> str:
    return (f", by {by}" if by else "") + (f" ({why})" if why else "")
