"""Appends to a journal: one write and one fsync a round, rotation by size, repair of a torn last line.

A segment that is closed is compressed: nothing of it is lost, and replay reads it as it was.

Opening writes nothing, so that a disk that is full or read-only is met at the first `append`, as a
JournalError that the loop can outlive and try again.
"""

import fcntl
import gzip
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.errors import JournalError
from polycdn.journal.codec import Frame, encode
from polycdn.journal.record import Entry, Repaired, Tip
from polycdn.journal.scan import COMPRESSED, SEGMENT_BYTES_MAX, Reader, Torn, is_compressed, segments_in

MIB: Final = 1024 * 1024
COMPRESSION: Final = 6
"""Level of zlib; 9 takes three times as long and saves 2 % more."""

LOCK_NAME: Final = "journal.lock"


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """A segment is closed beyond `segment_bytes_max`; the oldest are removed beyond `total_bytes_max`, the
    closed ones counted as they lie on disk: compressed."""

    segment_bytes_max: int = 4 * MIB
    total_bytes_max: int = 4096 * MIB


@dataclass(frozen=True, slots=True)
class Disk:
    """The three calls that can fail when a disk does; tests put others here."""

    write: Callable[[int, bytes], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    truncate: Callable[[int, int], None] = os.ftruncate


class Journal:
    """The one writer of a journal folder. Not for several threads."""

    def __init__(self, folder: Path, limits: JournalLimits, disk: Disk) -> None:
        self.folder = folder
        self._limits = limits
        self._disk = disk
        self._tip = Tip()
        self._torn: Torn | None = None
        self._file: Path | None = None
        self._fd = -1
        self._lock_fd = -1
        self._size_bytes = 0

    @classmethod
    def open(
        cls,
        folder: Path,
        limits: JournalLimits | None = None,
        disk: Disk | None = None,
        visit: Callable[[Frame], None] = lambda _: None,
    ) -> "Journal":
        """The journal of `folder`, ready to append after its last whole record.

        `visit` is shown every frame of the newest segment, or of the one before if that is empty. Raises
        ChainError when the newest segment is broken in its middle, JournalError when another process writes
        this journal.
        """
        journal = cls(folder, limits or JournalLimits(), disk or Disk())
        journal._lock()
        try:
            journal._find_tip(visit)
        except JournalError:
            journal.close()
            raise
        return journal

    @property
    def tip(self) -> Tip:
        """The last record that is safely on disk."""
        return self._tip

    @property
    def torn(self) -> Torn | None:
        """The line that a crash tore and that the first `append` cuts off."""
        return self._torn

    @property
    def is_segment_full(self) -> bool:
        """Time to `rotate`."""
        return self._size_bytes > self._limits.segment_bytes_max

    def append(self, entries: Sequence[Entry]) -> Tip:
        """Writes all entries, fsyncs once and gives the new tip; on JournalError nothing of them is kept."""
        if not entries:
            return self._tip
        try:
            self._make_ready()
            entries = (*self._repair_entry(entries[0].at_ms), *entries)
            lines, tip = self._encoded(entries)
            self._write(lines)
        except OSError as error:
            self._undo()
            raise self._write_error(error) from None
        self._size_bytes += len(lines)
        self._tip = tip
        self._torn = None
        return tip

    def rotate(self, first_entries: Sequence[Entry]) -> None:
        """Starts a new segment with `first_entries` (snapshots); on JournalError the old one goes on."""
        held = (self._fd, self._file, self._size_bytes)
        self._fd, self._file, self._size_bytes = -1, None, 0
        try:
            self.append(first_entries)
        except JournalError:
            self._drop_new_segment()
            self._fd, self._file, self._size_bytes = held
            raise
        if held[0] >= 0:
            os.close(held[0])
        for file in segments_in(self.folder)[:-1]:
            if not is_compressed(file):
                _compress(file)
        self._remove_oldest()

    def close(self) -> None:
        """Lets go of the files; every appended record is on disk already."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def _lock(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise JournalError(
                f"{self.folder}: another decider writes this journal; stop it first (`polycdn down`)"
            ) from None
        except OSError:
            self._lock_fd = -1

    def _find_tip(self, visit: Callable[[Frame], None]) -> None:
        files = segments_in(self.folder)
        if not files:
            return
        reader = Reader(files[-1:])
        for found in reader.frames():
            visit(found)
        self._tip = reader.tip or _tip_before(files, visit)
        if is_compressed(files[-1]):  # closed: what comes now goes into a new segment
            return
        self._file, self._torn = files[-1], reader.torn
        self._size_bytes = reader.torn.offset if reader.torn else files[-1].stat().st_size

    def _make_ready(self) -> None:
        if self._lock_fd < 0:
            self._lock()
        if self._fd >= 0:
            return
        if self._file is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self.folder / f"journal-{self._tip.seq + 1:012d}.jsonl"
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._disk.truncate(self._fd, self._size_bytes)
        _fsync_folder(self.folder)

    def _repair_entry(self, at_ms: int) -> tuple[Entry, ...]:
        if self._torn is None:
            return ()
        return (Entry(at_ms, "", Repaired(self._torn.file.name, self._torn.cut_bytes)),)

    def _encoded(self, entries: Sequence[Entry]) -> tuple[bytes, Tip]:
        lines, tip = [], self._tip
        for entry in entries:
            line, tip = encode(entry, tip)
            lines.append(line)
        return b"".join(lines), tip

    def _write(self, lines: bytes) -> None:
        written_bytes = 0
        while written_bytes < len(lines):
            written_bytes += self._disk.write(self._fd, lines[written_bytes:])
        self._disk.fsync(self._fd)

    def _undo(self) -> None:
        """Lets go of the file; the next append opens it again and cuts off what is not in the chain."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _drop_new_segment(self) -> None:
        if self._file is not None:
            _unlink(self._file)

    def _write_error(self, error: OSError) -> JournalError:
        return JournalError(
            f"journal {self._file or self.folder}: cannot be written: {error.strerror}. "
            "The last plan keeps serving; no decision is published until the journal can be written again"
        )

    def _remove_oldest(self) -> None:
        files = segments_in(self.folder)
        sizes_bytes = [_size_bytes(file) for file in files]
        while len(files) > 1 and sum(sizes_bytes) > self._limits.total_bytes_max:
            _unlink(files[0])
            files, sizes_bytes = files[1:], sizes_bytes[1:]


def _tip_before(files: tuple[Path, ...], visit: Callable[[Frame], None]) -> Tip:
    """The end of the chain when the newest segment holds no whole record."""
    if len(files) < 2:
        return Tip()
    reader = Reader(files[-2:-1])
    for found in reader.frames():
        visit(found)
    return reader.tip or Tip()


def _compress(file: Path) -> None:
    """Puts a compressed segment in place of a closed one, whole or not at all.

    Where that fails, on a full disk for one, the segment stays as it is, and the next rotation tries again.
    """
    small = file.with_name(file.name + COMPRESSED)
    draft = file.with_name(file.name + ".new")
    try:
        if file.stat().st_size > SEGMENT_BYTES_MAX:
            return
        with draft.open("wb") as out:
            out.write(gzip.compress(file.read_bytes(), COMPRESSION, mtime=0))
            out.flush()
            os.fsync(out.fileno())
        draft.replace(small)
        _fsync_folder(file.parent)
        file.unlink()
    except OSError:
        _unlink(draft)


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _unlink(file: Path) -> None:
    """Removes a file if that can be done; what stays is tried again at the next rotation."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
