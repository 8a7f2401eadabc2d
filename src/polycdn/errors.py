"""The three kinds of failure: the operator's mistake, the world's failure, and ours (`assert`)."""

from typing import NamedTuple


class PolycdnError(Exception):
    """Something that the command line reports in one message, without a traceback."""

    exit_code = 3


class Fault(NamedTuple):
    """One mistake in the operator's input: where, what was found, what is allowed, how to mend it.

    Every command loads this file, and `dataclasses` would take a third of the time that an edge has to start.
    """

    place: str
    found: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: found {self.found}; allowed: {self.allowed}; remedy: {self.remedy}"


class ConfigError(PolycdnError):
    """The operator's mistakes, all of them at once. Nothing was applied."""

    exit_code = 2

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        assert faults, "a ConfigError names at least one fault"
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class SurfaceError(PolycdnError):
    """A surface did not take a plan. `is_retryable` is False when the same call can never succeed."""

    def __init__(self, message: str, *, is_retryable: bool) -> None:
        self.is_retryable = is_retryable
        super().__init__(message)


class JournalError(PolycdnError):
    """The journal cannot be written or its chain is broken. The last plan keeps serving."""


class UnavailableError(PolycdnError):
    """Something outside (a process, a socket, a permission) kept a command from running; exit code 3."""
