"""The files that a config names: readable, not huge, and what they should be. Nothing of them is kept."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from polycdn.config.checked import Checked
from polycdn.config.locate import Path as KeyPath

PEM_BYTES_MAX: Final = 1_048_576
KEY_BYTES_MIN: Final = 16


def check_files(checked: Checked) -> None:
    """Adds a fault for each file that is named but cannot be used."""
    readable = {path for path, name in _named_files(checked.root, ()) if _is_readable(checked, path, name)}
    for path, surface in checked.tables("surface"):
        for inner, certificate in checked.tables("certificates", (path, surface)):
            if {(*inner, "cert_file"), (*inner, "key_file")} <= readable:
                _check_pair(checked, inner, certificate)
    for path, vantage in checked.tables("vantage"):
        if (*path, "key_file") in readable:
            _check_secret(checked, (*path, "key_file"), vantage["key_file"])
    for path in sorted(path for path in readable if path[-1] == "ca_file"):
        _check_authorities(checked, path)


def _named_files(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _named_files(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and key.endswith("_file") and item:
                yield (*path, key), item
            else:
                yield from _named_files(item, (*path, key))


def _is_readable(checked: Checked, path: KeyPath, name: str) -> bool:
    try:
        file = Path(name)
        if not file.is_file():
            words = "which is no file" if file.exists() else "which does not exist"
        elif file.stat().st_size > PEM_BYTES_MAX:
            words = f"which has {file.stat().st_size} bytes"
        else:
            with file.open("rb") as opened:
                opened.read(1)
            return True
    except OSError as error:
        words = f"which cannot be read: {error.strerror}"
    except ValueError as error:
        words = f"which is no path: {error}"
    checked.complain(
        path,
        f'"{name}", {words}',
        f"a readable file of at most {PEM_BYTES_MAX} bytes",
        "check the path (it starts at the folder of this config) and its permissions",
    )
    return False


def _check_pair(checked: Checked, path: KeyPath, certificate: dict[str, Any]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without this, OpenSSL would ask the terminal for the password of an encrypted key.
        context.load_cert_chain(certificate["cert_file"], certificate["key_file"], password=lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        checked.complain(
            (*path, "cert_file"),
            f"a pair that TLS does not take ({reason})",
            "a PEM chain, the leaf first, and the key that belongs to it, not encrypted",
            "check that both files are of the same certificate",
        )


def _check_authorities(checked: Checked, path: KeyPath) -> None:
    value: Any = checked.root
    for step in path:
        value = value[step]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        checked.complain(
            path,
            f'"{value}", in which TLS finds no certificate ({reason})',
            "PEM certificates",
            "name another",
        )


def _check_secret(checked: Checked, path: KeyPath, name: str) -> None:
    length = len(Path(name).read_bytes().strip())
    if length < KEY_BYTES_MIN:
        checked.complain(
            path,
            f"a secret of {length} bytes",
            f"at least {KEY_BYTES_MIN} bytes",
            "make one with `openssl rand -hex 32`",
        )
