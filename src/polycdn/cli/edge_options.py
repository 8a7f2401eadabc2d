"""The options of `polycdn edge` without a config file: what is allowed, and each mistake in a sentence."""

import argparse
import os
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    Fail = Callable[[str], NoReturn]
    Json = Any

UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
"""What may follow the number of a size; the short forms are binary."""

MEMORY_BYTES_MIN = 1_048_576
DISK_BYTES_MIN = 16_777_216
WORKERS_MAX = 256
DRAIN_S = 30
DRAIN_S_MAX = 86_400
FULL_BP = 10_000
STYLES = ("x-forwarded", "forwarded", "both", "none")
FORWARDED = ("x-forwarded", False)
"""Style, and whether the client is trusted."""


class Origin(NamedTuple):
    """One provider: where it is, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool


class AccessLog(NamedTuple):
    """Where lines go ("-" is standard output), and what they tell."""

    file: str
    sample_bp: int
    has_prefix: bool
    has_query: bool


class EdgeOptions(NamedTuple):
    """One edge, as its command line describes it. Addresses are "IP:port", sizes bytes."""

    origins: tuple[Origin, ...]
    http: tuple[str, ...]
    https: tuple[str, ...]
    certificates: tuple[tuple[str, str], ...]
    origin_ca: str | None
    is_caching: bool
    memory_bytes: int
    disk: tuple[str, int] | None
    workers: int
    admin: str | None
    admin_token_file: str | None
    takes_over: bool = False
    drain_s: int = DRAIN_S
    access_log: AccessLog | None = None
    forwarded: tuple[str, bool] = FORWARDED
    digests: tuple[dict[str, "Json"], ...] = ()
    shares_idempotency_keys: bool = False
    gate: "Json" = None
    """`limits` and `gate` of the settings, from a file; None without one."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Declares the options; without --engine-config at least --origin and one of --listen, --listen-tls."""
    add = parser.add_argument
    add(
        "--origin", metavar="URL", action="append", default=[], help="a provider; more in order of preference"
    )
    add("--listen", metavar="HOST:PORT", action="append", default=[], help="HTTP/1.1, and HTTP/2 unasked")
    add(
        "--listen-tls", metavar="HOST:PORT", action="append", default=[], help="the same over TLS 1.2 and 1.3"
    )
    add(
        "--cert",
        metavar="FILE",
        action="append",
        default=[],
        help="certificate chain (PEM); pairs with --key",
    )
    add("--key", metavar="FILE", action="append", default=[], help="its private key (PEM)")
    add("--origin-ca", metavar="FILE", help="trust this (PEM) for https origins, instead of the web's roots")
    add("--no-cache", action="store_true", help="pass everything on")
    add("--memory", metavar="SIZE", default="256MB", help="of the memory tier (default 256MB)")
    add("--disk", metavar="DIR:SIZE", help="a disk tier; none without")
    add("--workers", metavar="N", type=int, help="threads (default: one per CPU of this process)")
    add(
        "--admin",
        metavar="HOST:PORT",
        help="listener for /metrics, /healthz, /readyz and purge; :PORT is on loopback",
    )
    add(
        "--admin-token-file",
        metavar="FILE",
        help="secret for purge (default: one is made, and its file told)",
    )
    add(
        "--take-over",
        action="store_true",
        help="take the listening sockets over from the edge of this user that listens there, which then ends",
    )
    add(
        "--drain-s",
        metavar="N",
        type=int,
        default=DRAIN_S,
        help="seconds for what is under way after SIGTERM (default 30)",
    )
    _add_log(parser)
    add(
        "--forwarded",
        choices=STYLES,
        default=FORWARDED[0],
        help="how origins are told of clients (default x-forwarded)",
    )
    add("--trust-client", action="store_true", help="keep what clients say of theirs: they are your proxies")
    add("--gate", metavar="FILE", help="who gets in: TOML with [limits], [access] and [signing]")
    add(
        "--shared-idempotency-keys",
        action="store_true",
        help="all origins know one another's Idempotency-Key: a keyed POST may go to the next",
    )
    add("--digests", metavar="FILE", help="what bodies must be: JSON, path to size, sha256 and block digests")


def _add_log(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--access-log", metavar="FILE", help='a line of JSON per request; "-" is standard output')
    add(
        "--access-log-sample-bp",
        metavar="N",
        type=int,
        default=FULL_BP,
        help="of how many requests in 10000 (default all)",
    )
    add("--access-log-prefix", action="store_true", help="with the client's network, a /24 or a /48")
    add("--access-log-query", action="store_true", help="with the query")


def refuse_beside_config(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends with code 2 if an option is given that the config file would overrule."""
    for name, value in vars(arguments).items():
        if name != "engine_config" and value != parser.get_default(name):
            parser.error(
                f"--{name.replace('_', '-')} has no meaning beside --engine-config; set it in the file"
            )


def read(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> EdgeOptions:
    """The options, checked as far as that needs no file; ends with code 2 and one sentence otherwise.

    Raises ConfigError with all faults of the file of --gate.
    """
    fail = parser.error
    if not arguments.origin:
        fail("no --origin; at least one URL is needed (or --engine-config FILE)")
    if not arguments.listen and not arguments.listen_tls:
        fail("nothing to listen on; give --listen HOST:PORT or --listen-tls HOST:PORT")
    if len(arguments.cert) != len(arguments.key):
        fail(f"{len(arguments.cert)} --cert and {len(arguments.key)} --key; each certificate needs its key")
    if bool(arguments.listen_tls) != bool(arguments.cert):
        fail("--listen-tls needs --cert and --key, and they need it")
    workers = arguments.workers if arguments.workers is not None else len(os.sched_getaffinity(0))
    if not 1 <= workers <= WORKERS_MAX:
        fail(f"--workers {workers}; allowed: 1 to {WORKERS_MAX}")
    if not 0 <= arguments.drain_s <= DRAIN_S_MAX:
        fail(f"--drain-s {arguments.drain_s}; allowed: 0 to {DRAIN_S_MAX}")
    if arguments.admin_token_file and not arguments.admin:
        fail("--admin-token-file needs --admin HOST:PORT")
    return EdgeOptions(
        origins=tuple(_origin(url, fail) for url in arguments.origin),
        http=tuple(_address("--listen", text, fail) for text in arguments.listen),
        https=tuple(_address("--listen-tls", text, fail) for text in arguments.listen_tls),
        certificates=tuple(zip(arguments.cert, arguments.key, strict=True)),
        origin_ca=arguments.origin_ca,
        is_caching=not arguments.no_cache,
        memory_bytes=_size("--memory", arguments.memory, MEMORY_BYTES_MIN, fail),
        disk=_disk(arguments.disk, fail) if arguments.disk is not None else None,
        workers=workers,
        admin=_address("--admin", arguments.admin, fail, "127.0.0.1")
        if arguments.admin is not None
        else None,
        admin_token_file=arguments.admin_token_file,
        takes_over=arguments.take_over,
        drain_s=arguments.drain_s,
        access_log=_access_log(arguments, fail),
        forwarded=(arguments.forwarded, arguments.trust_client),
        digests=_digests(arguments.digests, fail) if arguments.digests is not None else (),
        shares_idempotency_keys=arguments.shared_idempotency_keys,
        gate=_gate(arguments.gate) if arguments.gate is not None else None,
    )


def _gate(file: str) -> "Json":
    from polycdn.config.gate_file import load_gate

    return load_gate(file)


def _access_log(arguments: argparse.Namespace, fail: "Fail") -> AccessLog | None:
    sample_bp, file = arguments.access_log_sample_bp, arguments.access_log
    if not 1 <= sample_bp <= FULL_BP:
        fail(f"--access-log-sample-bp {sample_bp}; allowed: 1 to {FULL_BP}")
    if file is None:
        if sample_bp != FULL_BP or arguments.access_log_prefix or arguments.access_log_query:
            fail("--access-log-sample-bp, -prefix and -query need --access-log FILE")
        return None
    path = file if file == "-" else os.path.abspath(file)  # noqa: PTH100 (pathlib is slow to load)
    return AccessLog(path, sample_bp, arguments.access_log_prefix, arguments.access_log_query)


def _digests(file: str, fail: "Fail") -> "tuple[dict[str, Json], ...]":
    from polycdn.cli.digests import DigestsError, read_digests

    try:
        return read_digests(file)
    except DigestsError as error:
        fail(f"--digests {error}")


def _origin(url: str, fail: "Fail") -> Origin:
    scheme, separator, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    if separator != "://" or scheme.lower() not in ("http", "https") or path or set("?#@ ") & set(authority):
        fail(f"--origin {url}: give http://HOST[:PORT] or https://HOST[:PORT]; a path cannot be put in front")
    tls = scheme.lower() == "https"
    host, port = _host_and_port(authority, 443 if tls else 80)
    if not host or port is None:
        fail(f"--origin {url}: no host, or a port that is not 1 to 65535")
    return Origin(host, port, tls)


def _address(option: str, text: str, fail: "Fail", without_host: str = "0.0.0.0") -> str:
    host, port = _host_and_port(text, None)
    if port is None and not text.endswith(":0"):
        fail(f"{option} {text}: give HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080")
    literal = {"": without_host, "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)
    if not _is_ip(literal):
        literal = _resolved(literal) or fail(f"{option} {text}: {host} is not an address of this machine")
    return f"[{literal}]:{port or 0}" if ":" in literal else f"{literal}:{port or 0}"


def _host_and_port(text: str, default: int | None) -> tuple[str, int | None]:
    """Host without brackets, and port; None if that is not one from 1 to 65535."""
    host, separator, digits = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, digits = text, "" if default is None else str(default)
    is_port = digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65_536
    return host.strip("[]"), int(digits) if is_port else None


def _is_ip(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            pass
    return False


def _resolved(host: str) -> str | None:
    import socket

    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


def _size(option: str, text: str, least: int, fail: "Fail") -> int:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = UNITS.get(text[len(digits) :].upper())
    if unit is None or not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        fail(f"{option} {text}: give a size such as 256MB, 2GiB or 1048576")
    size = int(digits) * unit
    if size < least:
        fail(f"{option} {text}: {size} bytes; at least {least}")
    return size


def _disk(text: str, fail: "Fail") -> tuple[str, int]:
    folder, _, size = text.rpartition(":")
    if not folder:
        fail(f"--disk {text}: give DIR:SIZE, such as /var/cache/polycdn:10GB")
    return os.path.abspath(folder), _size("--disk", size, DISK_BYTES_MIN, fail)  # noqa: PTH100 (pathlib is slow to load)
