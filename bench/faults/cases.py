"""The faults that one upstream of two has for a part of a run, and the cells that are shown apart."""

from dataclasses import dataclass

from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.model.chance import MILLION_PPM

FIRST, SECOND = "first", "second"
HALF_PPM = MILLION_PPM // 2


@dataclass(frozen=True)
class Hit:
    """One fault at one upstream, for a share of its requests."""

    kind: FaultKind
    upstream: str = FIRST
    share_ppm: int = MILLION_PPM
    period_ms: int | None = None
    delay_ms: int | None = None


FAULTS: dict[str, tuple[Hit, ...]] = {
    "none": (),
    "refuse": (Hit(FaultKind.REFUSE),),
    "flap": (Hit(FaultKind.REFUSE, share_ppm=HALF_PPM, period_ms=800),),
    "reset": (Hit(FaultKind.RESET),),
    "hang": (Hit(FaultKind.HANG),),
    "tls": (Hit(FaultKind.TLS),),
    "expired-cert": (Hit(FaultKind.EXPIRED_CERT),),
    "empty-reply": (Hit(FaultKind.EMPTY_REPLY),),
    "garbage": (Hit(FaultKind.GARBAGE),),
    "header-bomb": (Hit(FaultKind.HEADER_BOMB),),
    "http-5xx": (Hit(FaultKind.HTTP_5XX),),
    "http-5xx-share": (Hit(FaultKind.HTTP_5XX, share_ppm=300_000),),
    "slow-first-byte": (Hit(FaultKind.SLOW_FIRST_BYTE),),
    "slow-drip": (Hit(FaultKind.SLOW_DRIP),),
    "die-mid-body": (Hit(FaultKind.DIE_MID_BODY),),
    "truncate": (Hit(FaultKind.TRUNCATE),),
    "stall": (Hit(FaultKind.STALL),),
    "corrupt": (Hit(FaultKind.CORRUPT),),
    "error-page": (Hit(FaultKind.ERROR_PAGE),),
    "wrong-type": (Hit(FaultKind.WRONG_TYPE),),
    "wrong-length": (Hit(FaultKind.WRONG_LENGTH),),
    "other-version": (Hit(FaultKind.OTHER_VERSION),),
    "lost-answer": (Hit(FaultKind.LOST_ANSWER),),
    "both-down": (Hit(FaultKind.REFUSE), Hit(FaultKind.REFUSE, SECOND)),
    # Two at once: the second upstream is there, but not well either. What one spoils the other can mend.
    "cut+slow": (Hit(FaultKind.DIE_MID_BODY), Hit(FaultKind.SLOW_FIRST_BYTE, SECOND, delay_ms=800)),
    "corrupt+cut-share": (Hit(FaultKind.CORRUPT), Hit(FaultKind.DIE_MID_BODY, SECOND, 300_000)),
    "refuse+5xx-share": (Hit(FaultKind.REFUSE), Hit(FaultKind.HTTP_5XX, SECOND, 300_000)),
    "cut+other-version": (Hit(FaultKind.DIE_MID_BODY), Hit(FaultKind.OTHER_VERSION, SECOND)),
}

TLS_FAULTS = frozenset({"tls", "expired-cert"})
"""In these runs the upstreams speak TLS."""

BEFORE_THE_REQUEST = frozenset({"none", "refuse", "flap", "tls", "expired-cert"})
"""No byte of a request can have been carried out: even a plain POST may go on."""

WRONG_ANSWERS = frozenset({"error-page", "wrong-type"})


def schedule_of(fault: str, start_ms: int, run_ms: int, seed: int) -> Schedule:
    """The fault from the first to the last quarter of the run."""
    from_ms, to_ms = start_ms + run_ms // 4, start_ms + run_ms * 3 // 4
    windows = (
        Window(hit.upstream, from_ms, to_ms, hit.kind, hit.share_ppm, hit.period_ms, hit.delay_ms)
        for hit in FAULTS[fault]
    )
    return Schedule(seed, tuple(windows))


def why_apart(fault: str, workload: str) -> str | None:
    """Why no failure-free answer can be promised in this cell; None where it is the aim."""
    if fault == "none":
        return None
    if fault == "both-down":
        return "nobody is there"
    if "+" in fault and fault != "cut+slow":
        return "no healthy upstream remains"
    if workload == "post" and fault not in BEFORE_THE_REQUEST:
        return "a POST without a key may have been carried out"
    if workload in ("api", "post-key") and fault in WRONG_ANSWERS:
        return "nothing tells the wrong 200 from the right one"
    if workload == "events" and fault in ("corrupt", "wrong-length"):
        return "nothing tells a wrong event, or a wrong end, from a right one"
    return None
