"""Facts, in the past tense. Everything that changes a decision arrives as one of these and is journalled."""

from dataclasses import dataclass
from enum import StrEnum

from polycdn.model.observation import Observation
from polycdn.model.policy import Policy
from polycdn.model.topology import Service


class Stance(StrEnum):
    UP = "up"
    DOWN = "down"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Configured:
    """The service and its policy as they are from now on. The first event of every service."""

    at_ms: int
    service: Service
    policy: Policy


@dataclass(frozen=True, slots=True)
class Observed:
    """One round: everything that the vantages, engines and clients reported since the round before."""

    at_ms: int
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Quiet:
    """`rounds` rounds, ending at `at_ms`, in which every vantage found every provider good."""

    at_ms: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Forced:
    """The operator's word on a provider until `until_ms`; `region` None = everywhere."""

    at_ms: int
    provider: str
    stance: Stance
    until_ms: int
    region: str | None = None
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The operator takes back what was forced on a provider; `region` None = everywhere."""

    at_ms: int
    provider: str
    region: str | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Frozen:
    """No plan changes until `until_ms`; `until_ms == at_ms` thaws."""

    at_ms: int
    until_ms: int
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """Demand of a region as counted, in place of what the config says; 0 = not known, the config counts."""

    at_ms: int
    region: str
    demand_rps: int
    demand_mbps: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """A decider started; `generation` is the largest found in the journal and on every surface."""

    at_ms: int
    generation: int


Event = Configured | Observed | Quiet | Forced | Released | Frozen | Measured | Resumed
