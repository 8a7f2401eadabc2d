"""The proxies under test, each with the failover settings that its own documentation recommends.

All of them prefer the first upstream and go to the second when it fails; none sends a POST twice.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine_files import limited
from peers import caddy_config, envoy_config, haproxy_config, nginx_config, varnish_config
from workloads import CONTENT, manifest

from polycdn.lab.content import Content
from polycdn.model import settings


@dataclass(frozen=True)
class Setup:
    """What a target is told. `ca_file` None: the upstreams speak plain HTTP."""

    folder: Path
    port: int
    upstream_ports: tuple[int, ...]
    ca_file: str | None
    is_caching: bool
    admin_port: int = 0
    words: tuple[str, ...] = ()
    content: Content = CONTENT
    prefix_rps: int = 0
    """Requests a second that polycdn takes from one address; 0 = as many as come."""


class Target:
    """One proxy: `command` writes its config and gives back how it is started, in the foreground."""

    name = ""
    binary = ""
    speaks_tls_upstream = True
    can_cache = True
    environment: tuple[tuple[str, str], ...] = ()

    def found(self) -> str | None:
        """The program; None when it is not installed. BENCH_<NAME>_BIN names another."""
        named = os.environ.get(f"BENCH_{self.name.upper()}_BIN", self.binary)
        return shutil.which(named) if named else None

    def version(self) -> str:
        return ""

    def command(self, setup: Setup) -> list[str]:
        raise NotImplementedError

    def _version_of(self, *words: str) -> str:
        done = subprocess.run([str(self.found()), *words], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].strip() if lines else "unknown"


class Polycdn(Target):
    name = "polycdn"
    binary = sys.executable

    def version(self) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "polycdn", "--version"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or "polycdn"

    def command(self, setup: Setup) -> list[str]:
        if setup.prefix_rps and hasattr(settings, "Gate"):
            return [sys.executable, "-m", "polycdn", "edge", "--engine-config", str(limited(setup))]
        scheme = "https" if setup.ca_file else "http"
        words = [sys.executable, "-m", "polycdn", "edge", "--listen", f"127.0.0.1:{setup.port}"]
        for port in setup.upstream_ports:
            words += ["--origin", f"{scheme}://127.0.0.1:{port}"]
        # The two origins of the stage execute a key once between them.
        words += ["--shared-idempotency-keys", "--workers", "2", "--memory", "256MB", *setup.words]
        if setup.admin_port:
            words += ["--admin", f"127.0.0.1:{setup.admin_port}"]
        if setup.ca_file:
            words += ["--origin-ca", setup.ca_file]
        if not setup.is_caching:
            words.append("--no-cache")
        if "--digests" in _edge_help():
            file = setup.folder / "digests.json"
            file.write_text(json.dumps(manifest(setup.content)))
            words += ["--digests", str(file)]
        return words


@lru_cache(maxsize=1)
def _edge_help() -> str:
    words = [sys.executable, "-m", "polycdn", "edge", "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Nginx(Target):
    name = "nginx"
    binary = "nginx"

    def version(self) -> str:
        return self._version_of("-v").removeprefix("nginx version: ")

    def command(self, setup: Setup) -> list[str]:
        file = setup.folder / "nginx.conf"
        file.write_text(nginx_config(setup))
        return [
            str(self.found()),
            "-p",
            str(setup.folder),
            "-e",
            str(setup.folder / "e.log"),
            "-c",
            str(file),
        ]


class Haproxy(Target):
    name = "haproxy"
    binary = "haproxy"

    def version(self) -> str:
        return self._version_of("-v").partition(" - ")[0]

    def command(self, setup: Setup) -> list[str]:
        file = setup.folder / "haproxy.cfg"
        file.write_text(haproxy_config(setup))
        return [str(self.found()), "-db", "-f", str(file)]


class Varnish(Target):
    name = "varnish"
    binary = "varnishd"
    speaks_tls_upstream = False

    def version(self) -> str:
        return self._version_of("-V").partition(" revision")[0].strip("varnishd (")

    def command(self, setup: Setup) -> list[str]:
        file = setup.folder / "default.vcl"
        file.write_text(varnish_config(setup))
        words = [str(self.found()), "-F", "-j", "none", "-n", str(setup.folder / "v")]
        words += ["-a", f"127.0.0.1:{setup.port}", "-f", str(file), "-s", "malloc,512M", "-t", "2"]
        return [*words, "-p", "thread_pools=1", "-p", "thread_pool_min=50", "-p", "vcc_allow_inline_c=off"]


class Envoy(Target):
    name = "envoy"
    can_cache = False

    def version(self) -> str:
        return self._version_of("--version")

    def command(self, setup: Setup) -> list[str]:
        file = setup.folder / "envoy.json"
        file.write_text(json.dumps(envoy_config(setup)))
        words = [str(self.found()), "-c", str(file), "--concurrency", "2"]
        return [*words, "--disable-hot-restart", "-l", "error"]


class Caddy(Target):
    name = "caddy"
    can_cache = False

    def version(self) -> str:
        return self._version_of("version")

    def command(self, setup: Setup) -> list[str]:
        file = setup.folder / "Caddyfile"
        file.write_text(caddy_config(setup))
        return [str(self.found()), "run", "--config", str(file), "--adapter", "caddyfile"]


TARGETS: dict[str, Target] = {
    one.name: one for one in (Polycdn(), Nginx(), Haproxy(), Varnish(), Envoy(), Caddy())
}


def installed() -> tuple[str, ...]:
    """Names of the targets that can be run here."""
    return tuple(name for name, target in TARGETS.items() if target.found())
