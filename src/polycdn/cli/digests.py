"""The file of `--digests`: what the bodies of some paths are known to be. Checked before anything starts.

    {"/game.bin": {"size": 20971520, "sha256": "...", "block_bytes": 1048576, "block_sha256": ["...", ...]}}

`block_bytes` and `block_sha256` may be left out, together. The last block may be shorter than the others.
"""

import json
import os
from typing import Any, NoReturn

FILE_BYTES_MAX = 12 * 1024 * 1024
"""The engine refuses settings of more than 16 MiB."""

PATHS_MAX = 100_000
SIZE_MAX = 2**53
BLOCK_BYTES_MIN = 1_024
BLOCK_BYTES_MAX = 1_073_741_824
ALLOWED = ("size", "sha256", "block_bytes", "block_sha256")
EXAMPLE = '{"/path": {"size": 123, "sha256": "64 hexadecimal digits"}}'


class DigestsError(Exception):
    """The file cannot be used; the message names it, the place in it, what was found and what is allowed."""


def read_digests(file: str) -> tuple[dict[str, Any], ...]:
    """One object per path, as `Digest` of the settings has it, sorted by path. Raises DigestsError."""
    found = _parsed(file)
    if not isinstance(found, dict) or not found:
        raise DigestsError(f"{file}: {_shown(found)}; allowed: an object such as {EXAMPLE}")
    if len(found) > PATHS_MAX:
        raise DigestsError(f"{file}: {len(found)} paths; allowed: {PATHS_MAX}")
    return tuple(_digest(file, path, found[path]) for path in sorted(found))


def _parsed(file: str) -> Any:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 (pathlib is slow to load)
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise DigestsError(f"{file}: {error.strerror or error}; give a file that can be read") from None
    if len(content) > FILE_BYTES_MAX:
        size = os.stat(file).st_size  # noqa: PTH116
        raise DigestsError(f"{file}: {size} bytes; allowed: {FILE_BYTES_MAX}; use larger blocks")
    try:
        return json.loads(content, object_pairs_hook=_once)
    except _TwiceError as error:
        raise DigestsError(f"{file}: {error} a second time; each once") from None
    except (ValueError, RecursionError) as error:
        raise DigestsError(f"{file}: not JSON ({error}); it looks like {EXAMPLE}") from None


class _TwiceError(Exception):
    """A key stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(_shown(key))
        found[key] = value
    return found


def _digest(file: str, path: str, said: Any) -> dict[str, Any]:
    place = f"{file}: {_shown(path)}"
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise DigestsError(f"{place}; a path starts with / and is percent-encoded")
    if not isinstance(said, dict):
        _wrong(place, said, "an object with size and sha256")
    unknown = sorted(set(said) - set(ALLOWED))
    if unknown:
        raise DigestsError(f"{place}: unknown key {_shown(unknown[0])}; allowed: {', '.join(ALLOWED)}")
    size = _number(place, said, "size", 0, SIZE_MAX)
    digest: dict[str, Any] = {
        "path": path,
        "body_bytes": size,
        "sha256": _sha256(f"{place}.sha256", said.get("sha256")),
    }
    if "block_bytes" not in said and "block_sha256" not in said:
        return digest
    block_bytes = _number(place, said, "block_bytes", BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    blocks = said.get("block_sha256")
    if not isinstance(blocks, list):
        _wrong(f"{place}.block_sha256", blocks, "a list with the SHA-256 of each block")
    wanted = -(-size // block_bytes)
    if len(blocks) != wanted:
        _wrong(
            f"{place}.block_sha256",
            f"{len(blocks)} digests",
            f"{wanted}: {size} bytes in blocks of {block_bytes}",
        )
    checked = [_sha256(f"{place}.block_sha256[{index}]", one) for index, one in enumerate(blocks)]
    return digest | {"block_bytes": block_bytes} | ({"block_sha256": checked} if checked else {})


def _number(place: str, said: dict[str, Any], key: str, least: int, most: int) -> int:
    value = said.get(key)
    if type(value) is not int or not least <= value <= most:
        _wrong(f"{place}.{key}", value, f"a whole number from {least} to {most}")
    return value


def _sha256(place: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
        _wrong(place, value, "64 hexadecimal digits, as `sha256sum` prints them")
    return value.lower()


def _wrong(place: str, found: Any, allowed: str) -> NoReturn:
    raise DigestsError(f"{place}: {_shown(found)}; allowed: {allowed}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
