"""Who gets in, from polycdn.toml to what each engine is told."""

import json

import pytest

from polycdn.config.load import load
from polycdn.errors import ConfigError
from polycdn.model.settings import Access, ClientLimits, Issuer, Signing
from polycdn.run.layout import Layout
from polycdn.run.wiring import engine_config, gate_for

CONFIG = """\
[[provider]]
name = "cdn"
kind = "cdn"
endpoint = "https://cdn.example.com"

[[service]]
name = "www"
hostname = "www.example.com"

[[service]]
name = "video"
hostname = "video.example.com"
limits = { requests_per_prefix = "50 rps", uri_bytes_max = 4096 }
access = { deny = ["192.0.2.0/24"], deny_file = "denied" }

[service.signing]
issuers = [{ name = "shop", key_file = "shop.jwks" }]
audience = ["edge"]
leeway = "5s"

[[surface]]
name = "edge"
kind = "edge"
http = ["127.0.0.1:8080"]
limits = { connect_timeout = "250ms", uri_bytes_max = 8192, client_rate_window = "10s" }
access = { allow = ["127.0.0.0/8"] }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "denied").write_text("198.51.100.0/24\n")
    (tmp_path / "shop.jwks").write_text(json.dumps({"keys": []}))
    return tmp_path


def loaded(folder, text=CONFIG):
    (folder / "polycdn.toml").write_text(text)
    return load(str(folder / "polycdn.toml"), env={})


def test_a_service_says_more_than_the_edge_and_the_edge_more_than_nobody(folder):
    config = loaded(folder)
    [engine] = config.engines
    assert engine.limits.connect_timeout_ms == 250
    edge = ClientLimits(uri_bytes_max=8_192, client_rate_window_ms=10_000)
    www, video = gate_for(config, engine, "www"), gate_for(config, engine, "video")
    assert (www.limits, www.access, www.signing) == (edge, None, None)
    assert (video.limits.uri_bytes_max, video.limits.requests_per_prefix_rps) == (4_096, 50)
    assert video.limits.client_rate_window_ms == 10_000
    assert video.access == Access(deny=("192.0.2.0/24",), deny_file=str(folder / "denied"))
    assert video.signing == Signing((Issuer("shop", str(folder / "shop.jwks")),), ("edge",), leeway_s=5)


def test_an_edge_is_told_who_may_connect(folder):
    config = loaded(folder)
    layout = Layout(folder)
    assert engine_config(config.engines[0], layout)["access"] == {"allow": ["127.0.0.0/8"]}
    others = loaded(folder, CONFIG.replace('access = { allow = ["127.0.0.0/8"] }', ""))
    assert "access" not in engine_config(others.engines[0], layout)


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ('"192.0.2.0/24"', '"192.0.2.1/24"', "192.0.2.1/24"),
        ('"denied"', '"nowhere"', "nowhere"),
        ('"shop.jwks"', '"nowhere"', "nowhere"),
        ('issuers = [{ name = "shop", key_file = "shop.jwks" }]', "issuers = []", "a list of tables"),
        ('"50 rps"', '"50 m"', "50 m"),
        ("4096", "5", "5"),
        ('kind = "edge"', 'kind = "memory"', "access"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(folder, right, wrong, found):
    with pytest.raises(ConfigError) as caught:
        loaded(folder, CONFIG.replace(right, wrong))
    told = [f"{fault.place} {fault.found} {fault.allowed}" for fault in caught.value.faults]
    assert any("polycdn.toml:" in one and found in one for one in told), told
