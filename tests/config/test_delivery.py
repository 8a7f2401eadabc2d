"""How edges deliver a service: from polycdn.toml to the settings and start config that an engine reads."""

import json
from pathlib import Path

import pytest

from polycdn.config.load import load
from polycdn.config.loaded import Loaded
from polycdn.errors import ConfigError
from polycdn.model.settings import CacheRules, Fallback, Forwarded, Reflexes, Settings
from polycdn.model.wire import canonical
from polycdn.run.layout import Layout
from polycdn.run.up import UpOptions
from polycdn.run.wiring import decider_spec, engine_config

BASE = """\
[[provider]]
name = "a"
kind = "cdn"
addresses = ["192.0.2.1"]

[[surface]]
name = "e"
kind = "edge"
http = ["127.0.0.1:8080"]
{surface}
[[surface]]
name = "ns"
kind = "dns"
dns = ["127.0.0.1:5353"]
zone = {{ apex = "example.com", name_servers = ["ns.example.net"], mailbox = "h@example.com" }}

[[service]]
name = "www"
hostname = "www.example.com"
{service}
"""


def read(folder: Path, service: str = "", surface: str = "") -> Loaded:
    path = folder / "polycdn.toml"
    path.write_text(BASE.format(service=service, surface=surface))
    return load(str(path), env={})


def settings_of(loaded: Loaded, engine: str) -> Settings:
    spec = decider_spec(loaded, Layout(Path(loaded.state_dir)), UpOptions(), {})
    (link,) = (link for link in spec.engines if link.name == engine)
    return link.settings[0]


def faults(folder: Path, service: str = "", surface: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, service, surface)
    return [f"{fault.place.rpartition(':')[2]} {fault.found}" for fault in caught.value.faults]


def test_an_edge_keeps_what_the_standard_allows_unless_told_otherwise(tmp_path: Path) -> None:
    assert settings_of(read(tmp_path), "e").cache == CacheRules()
    assert settings_of(read(tmp_path, "[service.cache]\nenabled = false"), "e").cache is None


def test_what_is_said_of_cache_and_clients_reaches_the_edge_in_its_own_units(tmp_path: Path) -> None:
    said = """
forwarded = { style = "both", trust_client = true, via = false }
[service.cache]
heuristic = true
negative = [{ status = 404, ttl = "1m" }, { status = 410, ttl_s = 7 }]
query = "allow"
query_names = ["page", "v"]
object_max = "5 GB"
stale_while_revalidate = "30s"
stale_if_error = "1h"
stale_on_disconnect = "2d"
"""
    settings = settings_of(read(tmp_path, said), "e")
    assert settings.cache == CacheRules(
        heuristic=True,
        negative_ttls=((404, 60), (410, 7)),
        query="allow",
        query_names=("page", "v"),
        object_bytes_max=5_000_000_000,
        stale_while_revalidate_s=30,
        stale_if_error_s=3_600,
        stale_on_disconnect_s=172_800,
    )
    assert settings.forwarded == Forwarded("both", is_client_trusted=True, has_via=False)
    assert settings_of(read(tmp_path, 'forwarded = "none"'), "e").forwarded == Forwarded("none")


def test_a_nameserver_is_not_told_how_edges_deliver(tmp_path: Path) -> None:
    before = canonical(settings_of(read(tmp_path), "ns"))
    assert canonical(settings_of(read(tmp_path, 'forwarded = "both"'), "ns")) == before


def test_tiers_log_and_admin_of_an_edge_reach_its_start_config(tmp_path: Path) -> None:
    surface = """
memory = "1 GiB"
disk = { path = "tier", size = "2 GB" }
access_log = { path = "log/access.json", sample = "1%", client_prefix = true }
admin = { listen = "127.0.0.1:9180" }
drain = "10s"
handover_drain = "2h"
"""
    loaded = read(tmp_path, surface=surface)
    layout = Layout(tmp_path / "state")
    config = engine_config(loaded.engines[0], layout)
    assert json.loads(json.dumps(config)) == config
    assert config.pop("take_over") == config.pop("socket")
    log = {"file": str(tmp_path / "log/access.json"), "sample_bp": 100, "has_prefix": True}
    assert {key: config[key] for key in sorted(config) if key not in ("format", "state_dir")} == {
        "access_log": log,
        "admin": "127.0.0.1:9180",
        "admin_token_file": str(layout.admin_token_file("e")),
        "disk": {"folder": str(tmp_path / "tier"), "bytes": 2_000_000_000},
        "dns": [],
        "drain_s": 10,
        "engine": "e",
        "handover_drain_s": 7_200,
        "http": ["127.0.0.1:8080"],
        "https": [],
        "memory_bytes": 1_073_741_824,
        "workers": 1,
    }


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    service = """
forwarded = "x-forward"
[service.cache]
query = "allow"
negative = [{ status = 404, ttl = "1m" }, { status = 404, ttl = "5" }, { status = 200, ttl = "1m" }]
object_max = "5 apples"
stale_if_error = "-1s"
stale = "1m"
"""
    surface = """
memory = "10 B"
disk = { path = "tier", size = "1 MB" }
admin = { listen = "127.0.0.1:8080" }
access_log = { sample = "200%" }
"""
    found = "\n".join(faults(tmp_path, service, surface))
    for words in (
        '"x-forward"', 'query = "allow" without names', "status 404 a second time", '"5" (no unit)', "200",
        '"5 apples"', '"-1s"', "unknown key `stale`", "10 B", "1 MB", "127.0.0.1:8080 (TCP)", "200%", "path",
    ):  # fmt: skip
        assert words in found, found


def test_keys_of_an_edge_are_refused_elsewhere_and_folders_are_not_shared(tmp_path: Path) -> None:
    second = '\n[[surface]]\nname = "e2"\nkind = "edge"\nhttp = ["127.0.0.1:81"]\n'
    disk = 'disk = { path = "tier", size = "1 GB" }\n'
    assert any("folder of a disk tier" in one for one in faults(tmp_path, surface=disk + second + disk))
    feed = '\n[[surface]]\nname = "f"\nkind = "feed"\nlisten = "127.0.0.1:82"\n' + disk
    assert any("`disk` of a feed surface" in one for one in faults(tmp_path, surface=feed))


def test_reflexes_reach_the_edge_in_its_own_units(tmp_path: Path) -> None:
    assert settings_of(read(tmp_path), "e").reflexes == Reflexes()
    said = """
[service.reflexes]
identity = "size+last-modified"
integrity = "strict"
idempotency_scope = "service"
stall_timeout = "5s"
rate_min = "1 KiB"
hold_max = "1 MiB"
hedge_budget = "10%"
concurrency_max = 64
queue_max = 10
sample = "1%"
fallback = { body_file = "sorry.html" }
"""
    page = tmp_path / "sorry.html"
    page.write_text("back soon")
    last = Fallback(503, "text/html", str(page))
    reflexes = settings_of(read(tmp_path, said), "e").reflexes
    wanted = Reflexes(
        "size+last-modified", "strict", "service", 5_000, 1_024, 1_048_576, 1_000, 64, 10, 100, last
    )
    assert reflexes == wanted
    assert settings_of(read(tmp_path, said), "ns").reflexes == Reflexes()


def test_a_reflex_that_is_none_is_named(tmp_path: Path) -> None:
    said = '[service.reflexes]\nidentity = "weak"\nconcurrency_max = 0\nhedge = 3\n'
    assert len(faults(tmp_path, said)) == 3
