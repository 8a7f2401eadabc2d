"""The servers that are measured: their commands, the files in configs/ for them, what they cannot do.

Each has one worker, stays in the foreground and answers on two ports of loopback. /miss is never cached, by
configuration; /no-store only because its answer says so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from throughput.serving import Setup, Site

CONFIGS = Path(__file__).parent / "configs"
NO_CACHE_OF_ITS_OWN = {"storm": "no cache in it"}


@dataclass(frozen=True)
class Target:
    """One server. `programs` are what it is made of, the first gives the version; `cannot` is row -> why."""

    name: str
    programs: tuple[str, ...]
    setup: Callable[[Site, tuple[str, ...]], Setup]
    version: tuple[str, ...] = ()
    note: str = ""
    cannot: Mapping[str, str] = field(default_factory=dict)

    def found(self) -> tuple[str, ...] | str:
        """Paths of its programs, or the sentence that names a missing one. BENCH_ENVOY=PATH overrules."""
        paths = []
        for program in self.programs:
            name = f"BENCH_{program.upper()}"
            wanted = os.environ.get(name, program)
            path = shutil.which(wanted, path=f"{os.environ['PATH']}:/usr/sbin")
            if not path:
                return f"{wanted} is no program (`make peers`, or {name}=PATH)"
            paths.append(path)
        return tuple(paths)

    def told_version(self, paths: tuple[str, ...]) -> str:
        """The first line with a digit of what the program says of itself."""
        if not self.version:
            return ""
        done = subprocess.run(
            (paths[0], *self.version),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = done.stdout.replace(paths[0], self.programs[0])
        lines = [line.strip() for line in said.splitlines() if any(map(str.isdigit, line))]
        return lines[0] if lines else ""


def written(site: Site, name: str, to: str = "", **more: str) -> str:
    """Path of configs/NAME in the server's folder, with @WORD@ filled in from the site and `more`."""
    text = (CONFIGS / name).read_text()
    words = {word: str(value) for word, value in asdict(site).items()} | more
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    path = site.folder / (to or Path(name).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def polycdn(site: Site, paths: tuple[str, ...]) -> Setup:
    """An edge with its defaults; a second one with --no-cache for the row whose caching is switched off."""
    edge = (paths[0], "edge", "--origin", f"http://127.0.0.1:{site.origin}", "--workers", "1")
    caching = (
        *edge, "--listen", f"127.0.0.1:{site.http}", "--listen-tls", f"127.0.0.1:{site.https}",
        "--cert", str(site.certificate), "--key", str(site.key), "--admin", f"127.0.0.1:{site.fourth}",
    )  # fmt: skip
    passing = (*edge, "--listen", f"127.0.0.1:{site.third}", "--no-cache")
    return Setup((caching,), (passing,), {"miss": site.third}, {"TMPDIR": str(site.folder)})


def limit(site: Site, paths: tuple[str, ...], *how: str) -> Setup:
    """The floor program; misses go through its relay."""
    ports = (site.http, site.https, site.third, site.origin)
    command = (
        str(site.programs / "limit"), *map(str, ports), str(site.files), str(site.certificate), str(site.key)
    )  # fmt: skip
    return Setup(
        ((*command, *how),), ports={"miss": site.third, "no_store": site.third}, has_tls=site.has_tls
    )


def nginx(site: Site, paths: tuple[str, ...]) -> Setup:
    """One worker and the cache in files."""
    return Setup(((paths[0], "-p", str(site.folder), "-c", written(site, "nginx.conf")),))


def haproxy(site: Site, paths: tuple[str, ...]) -> Setup:
    """One thread and the memory cache."""
    return Setup(((paths[0], "-db", "-f", written(site, "haproxy.cfg")),))


def varnish(site: Site, paths: tuple[str, ...]) -> Setup:
    """Memory store, with hitch in front for TLS, which waits until Varnish listens."""
    sock = site.folder / "varnish.sock"
    settings = (
        "thread_pools=1",
        "thread_pool_min=100",
        "thread_pool_max=1000",
        "feature=+http2",
        "listen_depth=4096",
    )
    cache = (
        paths[0], "-F", "-j", "none", "-n", str(site.folder / "varnish"), "-a", f"127.0.0.1:{site.http}",
        "-a", f"{sock},PROXY,mode=0777", "-f", written(site, "varnish.vcl"), "-s", "malloc,1G",
        *(word for setting in settings for word in ("-p", setting)),
    )  # fmt: skip
    wait = (
        f"while [ ! -S {sock} ]; do sleep 0.02; done; exec {paths[1]} --config {written(site, 'hitch.conf')}"
    )
    return Setup((cache, ("sh", "-c", wait)))


def trafficserver(site: Site, paths: tuple[str, ...]) -> Setup:
    """One event thread; its packaged files with ours over them, owned by the user that it changes to."""
    user = "trafficserver" if os.geteuid() == 0 else str(os.geteuid())
    shutil.copytree("/etc/trafficserver", site.folder / "etc", dirs_exist_ok=True)
    for name in ("cache", "log", "run"):
        (site.folder / name).mkdir()
    for path in sorted((CONFIGS / "trafficserver").glob("*.config")):
        name = f"trafficserver/{path.name}"
        written(site, name, f"etc/{path.name}", user=user, tls_folder=str(site.key.parent))
    root = written(site, "trafficserver/runroot.yaml")
    for path in [site.folder, *site.folder.rglob("*")]:
        if os.geteuid() == 0:
            shutil.chown(path, user)
    return Setup(((paths[0], f"--run-root={root}"),), environment={"TS_RUNROOT": root})


def squid(site: Site, paths: tuple[str, ...]) -> Setup:
    """One process and the memory cache."""
    return Setup(((paths[0], "-N", "-n", f"bench{site.http}", "-f", written(site, "squid.conf")),))


def envoy(site: Site, paths: tuple[str, ...]) -> Setup:
    """One worker and the cache filter in memory."""
    config = written(site, "envoy.yaml")
    return Setup(((paths[0], "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"),))


def caddy(site: Site, paths: tuple[str, ...]) -> Setup:
    """One processor; the objects come from files, since its core has no cache."""
    command = (paths[0], "run", "--config", written(site, "Caddyfile"), "--adapter", "caddyfile")
    return Setup((command,), environment={"GOMAXPROCS": "1", "HOME": str(site.folder)})


FLOOR_CANNOT = {
    "hit_1k_h2": "no HTTP/2 in it",
    "memory": "a floor for time, not for memory",
    **NO_CACHE_OF_ITS_OWN,
}

TARGETS = (
    Target(
        "limit", (), limit, (), "the floor: C, one thread, fixed answers, sendfile, OpenSSL; relays misses",
        FLOOR_CANNOT,
    ),
    Target(
        "limit-copy", (), lambda site, paths: limit(site, paths, "copy"), (),
        "the floor with large bodies copied from huge pages instead of sendfile", FLOOR_CANNOT,
    ),
    Target(
        "polycdn", ("polycdn",), polycdn, ("--version",),
        "`miss` goes to a second edge with --no-cache: it has no switch for one path",
    ),
    Target("before", ("before",), polycdn, ("--version",), "another polycdn, named by --before"),
    Target("nginx", ("nginx",), nginx, ("-v",)),
    Target("haproxy", ("haproxy",), haproxy, ("-v",), "serves no ranges from its cache, joins no requests"),
    Target("varnish", ("varnishd", "hitch"), varnish, ("-V",), "TLS and HTTP/2 by hitch on the same CPU"),
    Target("trafficserver", ("traffic_server",), trafficserver, ("--version",)),
    Target(
        "squid", ("squid",), squid, ("-v",), "memory cache only; TLS by GnuTLS",
        {"hit_1k_h2": "no HTTP/2 towards users"},
    ),
    Target("envoy", ("envoy",), envoy, ("--version",), "its cache filter is not meant for production"),
    Target(
        "caddy", ("caddy",), caddy, ("version",), "no cache in its core: hits come from files on tmpfs",
        NO_CACHE_OF_ITS_OWN,
    ),
)  # fmt: skip


def chosen(names: str) -> tuple[Target, ...]:
    """The targets of a comma-separated list, in our order; all for an empty one. Raises ValueError."""
    wanted = [name for name in names.split(",") if name]
    known = [target.name for target in TARGETS]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no target is called {unknown[0]}; there are {', '.join(known)}")
    default = [name for name in known if name != "before" or "BENCH_BEFORE" in os.environ]
    return tuple(target for target in TARGETS if target.name in (wanted or default))


def beside_python(program: str) -> str:
    """The program that was installed with this Python, or its name alone."""
    path = Path(sys.executable).parent / program
    return str(path) if path.exists() else program
