"""An edge whose service limits what one address may ask for, as files that `--engine-config` reads."""

import json
from pathlib import Path
from typing import Any

from polycdn.model import settings as model
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import CacheRules, PublishedPlan, Settings, Upstream
from polycdn.model.topology import Endpoint, ProviderKind
from polycdn.model.units import ANYWHERE
from polycdn.model.wire import canonical, digest

NAMES = ("first", "second")
SERVICE, ENGINE = "www", "alone"


def limited(setup: Any) -> Path:
    """The engine's start config; settings and plan lie beside it."""
    gate = model.Gate(model.ClientLimits(requests_per_prefix_rps=setup.prefix_rps))
    ends = [Endpoint("127.0.0.1", port, tls=False) for port in setup.upstream_ports]
    ups = tuple(Upstream(name, ProviderKind.CLOUD, end) for name, end in zip(NAMES, ends, strict=True))
    one = Settings(SERVICE, ("*",), ups, cache=CacheRules() if setup.is_caching else None, gate=gate)
    region = RegionPlan(ANYWHERE, ((NAMES[0], 10_000),), NAMES, 60)
    plan = PublishedPlan(Plan(SERVICE, 1, 0, 0, (region,)), digest(one))
    folder = setup.folder / "state" / "engines" / ENGINE / SERVICE
    folder.mkdir(parents=True)
    (folder / f"settings-{digest(one)}.json").write_bytes(canonical(one))
    (folder / "plan.json").write_bytes(canonical(plan))
    file = setup.folder / "engine.json"
    config = {
        "format": "polycdn/engine/1",
        "engine": ENGINE,
        "state_dir": str(setup.folder / "state"),
        "socket": str(setup.folder / "s"),
        "workers": 2,
        "http": [f"127.0.0.1:{setup.port}"],
        "memory_bytes": 256_000_000,
        "must_load": True,
    }
    file.write_text(json.dumps(config))
    return Path(file)
