"""Outages as data: 19 recorded ones, and a reader for the operator's own.

`load(id)` or `load(path)` gives an `Incident`; `all_ids()` names those that are shipped. What an outage
does at one moment is answered by pure functions in `share.py`.
"""

from polycdn.incidents.incident import Effect, FaultKind, Incident, Kind, Phase, Until
from polycdn.incidents.reader import all_ids, load, parse
from polycdn.incidents.share import (
    Window,
    expected_failed_bp,
    in_scope,
    is_faulty_at,
    share_ppm_at,
    slow_ppm_at,
    until_ms,
    windows,
)

__all__ = [
    "Effect",
    "FaultKind",
    "Incident",
    "Kind",
    "Phase",
    "Until",
    "Window",
    "all_ids",
    "expected_failed_bp",
    "in_scope",
    "is_faulty_at",
    "load",
    "parse",
    "share_ppm_at",
    "slow_ppm_at",
    "until_ms",
    "windows",
]
