"""An edge that is told by files, as `polycdn up` tells one: its config, its service's settings, its plans."""

import json
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polycdn.model import settings as model
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import CacheRules, Limits, PublishedPlan, Settings, Upstream
from polycdn.model.topology import Endpoint, ProviderKind
from polycdn.model.units import ANYWHERE
from polycdn.model.wire import canonical, digest

SERVICE, ENGINE = "www", "alone"
SOCKET_S_MAX = 10


@dataclass(frozen=True)
class EngineFiles:
    """One service on one engine; `folder` holds everything that is written."""

    folder: Path
    port: int
    admin_port: int
    settings: Settings

    @property
    def config_file(self) -> Path:
        """What the engine is started with."""
        return self.folder / "engine.json"

    @property
    def token_file(self) -> Path:
        """The secret for purging."""
        return self.folder / "token"

    def write_config(self, **more: Any) -> None:
        """Config and the first plan; `more` goes into the config."""
        self.publish(1, self.names, "plan.json")
        self.token_file.write_text("secret-of-the-bench\n")
        config = {
            "format": "polycdn/engine/1",
            "engine": ENGINE,
            "state_dir": str(self.folder / "state"),
            "socket": str(self.folder / "s"),
            "workers": 2,
            "http": [f"127.0.0.1:{self.port}"],
            "must_load": True,
            **more,
        }
        if self.admin_port:
            config |= {"admin": f"127.0.0.1:{self.admin_port}", "admin_token_file": str(self.token_file)}
        self.config_file.write_text(json.dumps(config))

    @property
    def names(self) -> tuple[str, ...]:
        """The upstreams, as the settings have them."""
        return tuple(upstream.name for upstream in self.settings.upstreams)

    def publish(self, generation: int, order: tuple[str, ...], file: str = "candidate.json") -> None:
        """Writes a plan, and the settings that it names."""
        region = RegionPlan(ANYWHERE, ((order[0], 10_000),), order, 60)
        plan = Plan(SERVICE, generation, generation - 1, 0, (region,))
        published = PublishedPlan(plan, digest(self.settings))
        folder = self.folder / "state" / "engines" / ENGINE / SERVICE
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"settings-{digest(self.settings)}.json").write_bytes(canonical(self.settings))
        (folder / file).write_bytes(canonical(published))

    def apply(self, generation: int, order: tuple[str, ...]) -> dict[str, Any]:
        """Makes a plan the one in force; the engine's answer."""
        self.publish(generation, order)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SOCKET_S_MAX)
            connection.connect(str(self.folder / "s"))
            connection.sendall(json.dumps({"op": "apply", "service": SERVICE}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                return dict(json.loads(stream.readline()))

    def having(self, **fields: Any) -> "EngineFiles":
        """The same with other fields in its settings."""
        return replace(self, settings=replace(self.settings, **fields))


def settings_for(names: tuple[str, ...], ports: tuple[int, ...], **more: Any) -> Settings:
    """A service for every host name, cached, with these upstreams on loopback."""
    ends = [Endpoint("127.0.0.1", port, tls=False) for port in ports]
    ups = [Upstream(name, ProviderKind.CLOUD, end) for name, end in zip(names, ends, strict=True)]
    return Settings(SERVICE, ("*",), tuple(ups), **{"cache": CacheRules(), "limits": Limits(), **more})


def limited(setup: Any) -> Path:
    """The config of an edge that takes so many requests a second from one address."""
    gate = model.Gate(model.ClientLimits(requests_per_prefix_rps=setup.prefix_rps))
    settings = settings_for(("first", "second"), setup.upstream_ports, gate=gate)
    files = EngineFiles(setup.folder, setup.port, 0, settings)
    files.write_config(memory_bytes=256_000_000)
    return files.config_file
