"""Logs of the lab: one JSON object a line, written in batches, readable while they grow."""

import asyncio
import json
from pathlib import Path
from typing import IO, Final

FLUSH_INTERVAL_S: Final = 0.2
PENDING_LINES_MAX: Final = 500


class LineLog:
    """A log file. Whole lines reach the file at most 200 ms after `write`, and all of them with `close`."""

    def __init__(self, path: str | Path) -> None:
        self._file: IO[bytes] = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._pending: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, **fields: str | int | bool) -> None:
        """Adds one line."""
        self._pending.append(json.dumps(fields, separators=(",", ":")))
        if len(self._pending) >= PENDING_LINES_MAX:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Hands what is pending to the operating system in one write."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            self._file.write(("\n".join(self._pending) + "\n").encode())
            self._pending.clear()

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        self._file.close()
