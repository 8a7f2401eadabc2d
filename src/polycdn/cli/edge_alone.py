"""An edge from its command line alone: its config, settings and plan as files in a private folder of its own.

The folder (mode 0700) lies in `$XDG_RUNTIME_DIR`, else in `$TMPDIR`, else in /tmp, and goes away with
the process. The engine reads the same files as one that `polycdn up` starts, so there is one way to serve.
The JSON is written by hand: loading the model's classes would take longer than all the rest. A test compares
both.
"""

import contextlib
import hashlib
import json
import os
import sys
from typing import Any, NamedTuple

from polycdn.cli.edge_options import DRAIN_S, FORWARDED, EdgeOptions, Origin
from polycdn.errors import UnavailableError

SERVICE = "edge"
ONE_ORIGIN_FIRST_BYTE_MS = 60_000
"""With nobody else to ask, a slow origin is waited for as long as a client would."""

SEVERAL_ORIGINS_FIRST_BYTE_MS = 10_000

PREFIX = "polycdn-"
"""Begins the names of the private folders."""

ANSWER_S_MAX = 2
LINE_BYTES_MAX = 1_048_576
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Alone(NamedTuple):
    """A private folder that is ready for the engine."""

    folder: str
    config_file: str

    def remove(self) -> None:
        """Takes the folder away; what is gone already, or was changed by others, is left as it is."""
        for folder, folders, files in os.walk(self.folder, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    os.unlink(f"{folder}/{name}")  # noqa: PTH108 (pathlib is slow to load)
            for name in folders:
                with contextlib.suppress(OSError):
                    os.rmdir(f"{folder}/{name}")  # noqa: PTH106
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)  # noqa: PTH106


def prepare(options: EdgeOptions) -> Alone:
    """Writes what the engine needs. Raises UnavailableError if the folder cannot be made."""
    try:
        folder = _private_folder()
        alone = Alone(folder, f"{folder}/engine.json")
        try:
            _write_all(alone, options)
        except OSError:
            alone.remove()
            raise
    except OSError as error:
        raise UnavailableError(f"edge: {error}") from None
    return alone


def settings_of(options: EdgeOptions) -> dict[str, Any]:
    """`Settings` as `model/wire.py` would write them."""
    names = [f"origin-{number}" for number, _ in enumerate(options.origins, 1)]
    patience_ms = ONE_ORIGIN_FIRST_BYTE_MS if len(names) == 1 else SEVERAL_ORIGINS_FIRST_BYTE_MS
    settings: dict[str, Any] = {
        "service": SERVICE,
        "hostnames": ["*"],
        "upstreams": [
            {"name": name, "kind": "cloud", "endpoint": _endpoint(origin, options.origin_ca)}
            for name, origin in zip(names, options.origins, strict=True)
        ],
        "limits": {"first_byte_timeout_ms": patience_ms},
    }
    if options.gate:
        settings["limits"] |= options.gate.get("limits", {})
        settings |= {"gate": gate} if (gate := options.gate.get("gate")) else {}
    if options.is_caching:
        settings["cache"] = {}
    said = zip(("style", "is_client_trusted"), options.forwarded, FORWARDED, strict=True)
    if forwarded := {key: value for key, value, default in said if value != default}:
        settings["forwarded"] = forwarded
    if options.digests:
        settings["digests"] = list(options.digests)
    if options.shares_idempotency_keys:
        settings["reflexes"] = {"idempotency_scope": "service"}
    if options.certificates:
        settings["certificates"] = [
            {"cert_file": cert, "key_file": key} for cert, key in options.certificates
        ]
    return settings


def _endpoint(origin: Origin, ca_file: str | None) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"host": origin.host}
    if origin.port != 443:
        endpoint["port"] = origin.port
    if not origin.tls:
        endpoint["tls"] = False
    elif ca_file:
        endpoint["ca_file"] = ca_file
    return endpoint


def plan_of(options: EdgeOptions, settings_hash: str) -> dict[str, Any]:
    """The plan: everything to the first origin, the others after it in their order."""
    order = [f"origin-{number}" for number, _ in enumerate(options.origins, 1)]
    region = {"region": "anywhere", "shares": [[order[0], 10_000]], "order": order, "ttl_s": 60}
    plan = {"service": SERVICE, "generation": 1, "parent": 0, "made_ms": 0, "regions": [region]}
    return {"plan": plan, "settings_hash": settings_hash}


def config_of(options: EdgeOptions, folder: str, token_file: str | None) -> dict[str, Any]:
    """The engine's start config."""
    config: dict[str, Any] = {
        "format": "polycdn/engine/1",
        "engine": "alone",
        "state_dir": folder,
        "socket": f"{folder}/s",
        "workers": options.workers,
        "http": list(options.http),
        "https": list(options.https),
        "memory_bytes": options.memory_bytes,
        "must_load": True,
    }
    if options.drain_s != DRAIN_S:
        config["drain_s"] = options.drain_s
    if log := options.access_log:
        config["access_log"] = log._asdict()
    if options.takes_over and (running := running_edge(options)):
        config["take_over"] = running
    if options.disk:
        config["disk"] = {"folder": options.disk[0], "bytes": options.disk[1]}
    if options.admin:
        config["admin"] = options.admin
        config["admin_token_file"] = token_file
    return config


def running_edge(options: EdgeOptions) -> str | None:
    """The control socket of an edge of this user that listens on one of these addresses; None without."""
    wanted = {*options.http, *options.https}
    parent = _runtime_folder()
    for name in sorted(os.listdir(parent)):  # noqa: PTH208 (pathlib is slow to load)
        path = f"{parent}/{name}/s"
        if name.startswith(PREFIX) and wanted & _listening(path):
            return path
    return None


def _listening(path: str) -> set[str]:
    """Where the edge with this control socket listens; nowhere if nobody answers, or it is another user's."""
    import socket

    with contextlib.suppress(OSError, ValueError, KeyError), socket.socket(socket.AF_UNIX) as connection:
        if os.lstat(path).st_uid != os.getuid():
            return set()
        connection.settimeout(ANSWER_S_MAX)
        connection.connect(path)
        connection.sendall(b'{"op":"hello"}\n')
        with connection.makefile("rb") as lines:
            listeners = json.loads(lines.readline(LINE_BYTES_MAX))["listeners"]
        return {*listeners.get("http", ()), *listeners.get("https", ())}
    return set()


def _runtime_folder() -> str:
    parent = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    return parent.rstrip("/")


def _private_folder() -> str:
    folder = f"{_runtime_folder()}/{PREFIX}{os.urandom(6).hex()}"
    os.mkdir(folder, 0o700)  # noqa: PTH102
    return folder


def _write_all(alone: Alone, options: EdgeOptions) -> None:
    service = f"{alone.folder}/engines/alone/{SERVICE}"
    os.makedirs(service, 0o700)  # noqa: PTH103
    settings = _canonical(settings_of(options))
    settings_hash = hashlib.sha256(settings).hexdigest()
    _write(f"{service}/settings-{settings_hash}.json", settings)
    _write(f"{service}/plan.json", _canonical(plan_of(options, settings_hash)))
    token_file = options.admin_token_file
    if options.admin and not token_file:
        token_file = f"{alone.folder}/admin.token"
        _write(token_file, os.urandom(24).hex().encode() + b"\n")
        print(f"polycdn edge: the token for purge lies in {token_file}", file=sys.stderr)
    _write(alone.config_file, _canonical(config_of(options, alone.folder, token_file)))


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, FILE_FLAGS, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
