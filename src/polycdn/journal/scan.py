"""Reads journals: record by record, verifying the chain; says where a chain is broken and what to do.

A journal is a folder of segments `journal-<first seq>.jsonl`; the chain runs on from one to the next. The
first segment that is still kept may start anywhere. Segments that are closed lie there compressed, as
`journal-<first seq>.jsonl.gz`: the same lines.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from polycdn.errors import JournalError
from polycdn.journal.codec import LINE_BYTES_MAX, Frame, LineError, follows, frame
from polycdn.journal.record import Record, Tip

COMPRESSED: Final = ".gz"
SEGMENT_BYTES_MAX: Final = 1024 * 1024 * 1024
"""A larger file is not one of ours and is refused: before it is read, or when it turns out so."""


class ChainError(JournalError):
    """The chain is broken at `place` (file:line); `tip` is the end of what can still be trusted."""

    def __init__(self, place: str, why: str) -> None:
        self.place = place
        self.why = why
        super().__init__(
            f"{place}: {why}. Everything before this line can be trusted. "
            "Keep a copy for whoever looks into it, then restore the journal from a backup "
            "or move it aside (mv): plans go on with the generation after the newest on any surface"
        )


@dataclass(frozen=True, slots=True)
class Torn:
    """A last line without its end, as a crash leaves it: everything from `offset` in `file`."""

    file: Path
    line: int
    offset: int
    cut_bytes: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of reading a whole journal; `broken` is a sentence with file:line, "" = the chain holds."""

    files: int
    records: int
    first_seq: int
    last_seq: int
    last_hash: str
    torn: str = ""
    broken: str = ""


class Reader:
    """Walks segments in order. After the walk `tip` and `torn` tell where it ended."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self.tip: Tip | None = None
        self.torn: Torn | None = None
        self.first_seq = 0

    def records(self) -> Iterator[Record]:
        """Every record, oldest first. Raises ChainError where the chain breaks."""
        for file in self._files:
            for number, found in self._segment(file):
                try:
                    yield found.record()
                except LineError as error:
                    raise ChainError(f"{file}:{number}", str(error)) from None

    def frames(self) -> Iterator[Frame]:
        """As `records`, with bodies that nobody has looked at yet."""
        for file in self._files:
            for _, found in self._segment(file):
                yield found

    def _segment(self, file: Path) -> Iterator[tuple[int, Frame]]:
        """Line numbers and frames of one file."""
        offset = 0
        for number, line in enumerate(_lines(file), start=1):
            is_last = file == self._files[-1]
            if not line.endswith(b"\n") and len(line) <= LINE_BYTES_MAX and is_last:
                self.torn = Torn(file, number, offset, len(line))
                return
            try:
                found = self._next(line)
            except LineError as error:
                raise ChainError(f"{file}:{number}", str(error)) from None
            yield number, found
            offset += len(line)

    def _next(self, line: bytes) -> Frame:
        found = frame(line)
        if self.tip is None:
            self.first_seq = found.seq
        if self.tip is not None or found.seq == 1:
            follows(found, self.tip or Tip())
        self.tip = Tip(found.seq, found.hash)
        return found


def _lines(file: Path) -> Iterator[bytes]:
    read_bytes = file.stat().st_size if file.exists() else 0
    try:
        with opened(file) as lines:
            _refuse_larger(file, read_bytes)
            read_bytes = 0
            while line := lines.readline(LINE_BYTES_MAX + 1):
                read_bytes += len(line)
                _refuse_larger(file, read_bytes)
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ChainError(str(file), f"the compressed segment is damaged: {error}") from None
    except OSError as error:
        raise JournalError(f"{file}: cannot be read: {error.strerror}") from None


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The lines of a segment, compressed or not."""
    if is_compressed(file):
        with gzip.open(file, "rb") as lines:
            yield cast(IO[bytes], lines)
    else:
        with file.open("rb") as plain:
            yield plain


def is_compressed(file: Path) -> bool:
    """Whether this is a segment that was closed and made small."""
    return file.suffix == COMPRESSED


def _refuse_larger(file: Path, size_bytes: int) -> None:
    if size_bytes > SEGMENT_BYTES_MAX:
        raise JournalError(
            f"{file}: {size_bytes} bytes, limit {SEGMENT_BYTES_MAX}; this is not a journal segment"
        )


def segments(place: Path) -> tuple[Path, ...]:
    """The files of a journal, oldest first; a single file is a journal of its own. () = none yet."""
    return (place,) if place.is_file() else segments_in(place)


def segments_in(folder: Path) -> tuple[Path, ...]:
    """The files of a journal that a decider writes, oldest first.

    Of a segment that lies there both ways, as a crash can leave it, the one that is not compressed: that one
    is whole.
    """
    plain = {file.name: file for file in folder.glob("journal-*.jsonl")}
    small = {file.stem: file for file in folder.glob(f"journal-*.jsonl{COMPRESSED}")}
    return tuple(file for _, file in sorted((small | plain).items()))


def existing_segments(place: Path) -> tuple[Path, ...]:
    """As `segments`, but at least one; raises JournalError when there is none."""
    files = segments(place)
    if not files:
        raise JournalError(
            f"{place}: no journal here; give a folder with journal-*.jsonl files or one such file"
        )
    return files


def read(place: Path) -> Iterator[Record]:
    """Every record of a journal (a folder or one file), oldest first; a torn last line is left out."""
    return Reader(existing_segments(place)).records()


def verify(place: Path) -> Verification:
    """Reads everything. Raises JournalError only when there is nothing to read."""
    files = existing_segments(place)
    reader, count, broken = Reader(files), 0, ""
    try:
        for _ in reader.records():
            count += 1
    except JournalError as error:
        broken = str(error)
    tip = reader.tip or Tip()
    return Verification(
        len(files), count, reader.first_seq, tip.seq, tip.hash, torn=_torn_text(reader.torn), broken=broken
    )


def _torn_text(torn: Torn | None) -> str:
    if torn is None:
        return ""
    return (
        f"{torn.file}:{torn.line}: the last line is torn ({torn.cut_bytes} bytes), as a crash leaves it; "
        "it is cut off at the next start"
    )
