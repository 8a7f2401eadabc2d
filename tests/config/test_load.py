"""Where a config is found, how its files and the environment are joined, and what comes of it."""

import subprocess
import sys

import pytest

from polycdn.config.load import default_state_dir, load, load_if_any
from polycdn.config.loaded import EngineRole, SurfaceKind
from polycdn.config.starter import STARTER
from polycdn.errors import ConfigError
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.topology import Endpoint, Expect, ProbedObject, ProviderKind, Region

WHOLE = """\
state_dir = "state"

[listen]
observations = "[::1]:9000"

[policy]
rule = "weighted"
dwell = "90s"
ttl_calm_s = 120

[[provider]]
name = "cdn-a"
kind = "cdn"
endpoint = "https://a.cdn.example:8443"
company = "A Inc"
capacity = "10 Gbit/s"
cost = "0.02/GiB"
weight = 3
floor = "5%"
ceiling = "80%"

[[provider]]
name = "cdn-b"
kind = "cloud"
cname = "www.b.example."
tls = false
capacity_rps = 2000
regions = ["eu"]

[[region]]
name = "world"
demand = "2 Gbit/s"

[[region]]
name = "eu"
countries = ["de", "FR"]
prefixes = ["2001:DB8::/32"]
asns = [64512]
demand_rps = 7

[[vantage]]
name = "here"

[[vantage]]
name = "far"
regions = ["eu"]
source_address = "192.0.2.7"
remote = true

[[service]]
name = "www"
hostname = "WWW.Example.com."
aliases = ["example.com"]
origin = "http://origin.example.com"
providers = ["cdn-b", "own", "cdn-a"]
object = ["/a", { path = "/b", expect = { status = 204, size = "0 B", headers = { x = "1" } } }]

[[service.provider]]
name = "own"
kind = "edge"
addresses = ["192.0.2.9", "2001:db8::9"]
port = 8080

[service.policy]
rule = "cost"
on_total_loss = "own_edge"

[[service]]
name = "plain"
hostname = "plain.example.com"
regions = ["eu"]

[[surface]]
name = "ns"
kind = "dns"
dns = ["127.0.0.1:0"]
zone = { apex = "example.com", name_servers = ["ns1.example.net"], mailbox = "h@example.com", refresh = "2h" }

[[surface]]
name = "edge"
kind = "edge"
services = ["www"]
http = ["127.0.0.1:0"]
workers = 2
limits = { connect_timeout = "250ms" }

[[surface]]
name = "zone"
kind = "zonefile"
path = "out/example.zone"
zone = { apex = "example.com", name_servers = [{ name = "ns1.example.com", addresses = ["192.0.2.1"] }], \
mailbox = "h@example.com" }
"""


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "polycdn.toml").write_text(WHOLE)
    return load(folder=str(tmp_path), env={})


def test_a_whole_config_becomes_services_and_policies(whole):
    (www, policy), (plain, plain_policy) = whole.services
    assert www.hostname == "www.example.com"
    assert www.aliases == ("example.com",)
    assert www.origin == Endpoint("origin.example.com", 80, False)
    assert [provider.name for provider in www.providers] == ["cdn-b", "own", "cdn-a"]
    assert www.objects == (ProbedObject("/a"), ProbedObject("/b", Expect(204, 0, headers=(("x", "1"),))))
    assert policy == Policy(
        rule=Rule.COST, on_total_loss=OnTotalLoss.OWN_EDGE, dwell_ms=90_000, ttl_calm_s=120
    )
    assert plain_policy.rule is Rule.WEIGHTED
    assert [provider.name for provider in plain.providers] == ["cdn-a", "cdn-b"]
    assert plain.objects == (ProbedObject("/"),)
    assert plain.origin is None


def test_providers_say_where_to_connect(whole):
    cdn_b, own, cdn_a = whole.services[0][0].providers
    assert cdn_a.endpoint == Endpoint("a.cdn.example", 8443)
    assert (cdn_a.company, cdn_a.weight, cdn_a.floor_bp, cdn_a.ceiling_bp) == ("A Inc", 3, 500, 8_000)
    assert (cdn_a.capacity_mbps, cdn_a.capacity_rps, cdn_a.cost_micros_per_gib) == (10_000, None, 20_000)
    assert cdn_b.kind is ProviderKind.CLOUD
    assert cdn_b.endpoint == Endpoint("www.example.com", 80, False)
    assert (cdn_b.cname, cdn_b.capacity_rps, cdn_b.regions) == ("www.b.example", 2_000, ("eu",))
    assert own.endpoint == Endpoint("www.example.com", 8080, True, ("192.0.2.9", "2001:db8::9"))


def test_regions_and_vantages_belong_to_services(whole):
    www, plain = (service for service, _policy in whole.services)
    assert www.regions == (
        Region("world", demand_mbps=2_000),
        Region("eu", ("2001:db8::/32",), ("DE", "FR"), (64512,), demand_rps=7),
    )
    assert [vantage.name for vantage in www.vantages] == ["here", "far"]
    assert [region.name for region in plain.regions] == ["eu"]
    assert [vantage.name for vantage in plain.vantages] == ["here", "far"]
    sites = [(site.vantage.name, site.is_remote) for site in whole.vantages]
    assert sites == [("here", False), ("far", True)]
    assert whole.vantages[1].vantage.source_address == "192.0.2.7"


def test_surfaces_and_engines_are_told_apart(whole, tmp_path):
    dns, edge = whole.engines
    assert (dns.role, dns.dns) == (EngineRole.DNS, ("127.0.0.1:0",))
    assert dns.zone is not None
    assert (dns.zone.apex, dns.zone.refresh_s, dns.zone.name_servers[0].name) == (
        "example.com",
        7_200,
        "ns1.example.net",
    )
    assert (edge.role, edge.services, edge.workers, edge.limits.connect_timeout_ms) == (
        EngineRole.EDGE,
        ("www",),
        2,
        250,
    )
    (zone,) = whole.surfaces
    assert zone.kind is SurfaceKind.ZONEFILE
    assert zone.path == str(tmp_path / "out/example.zone")
    assert whole.state_dir == str(tmp_path / "state")
    assert whole.listen.observations == "[::1]:9000"


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ('dns = ["192.0.2.53:53", "127.0.0.1:0"]', ("192.0.2.53:53",)),
        ('dns = ["0.0.0.0:53"]', ("192.0.2.1:53", "[2001:db8::1]:53")),
        ('dns = ["[::]:53"]\nasked_at = ["203.0.113.53:53"]', ("203.0.113.53:53",)),
        ('dns = ["192.0.2.53:53"]\nasked_at = []', ()),
    ],
)
def test_vantages_ask_our_nameserver_where_it_can_be_reached(tmp_path, told, asked):
    write(tmp_path / "polycdn.toml", "www.example")
    with (tmp_path / "polycdn.toml").open("a") as config:
        config.write(
            f"""[[surface]]
name = "ns"
kind = "dns"
{told}
zone.apex = "example"
zone.mailbox = "h@example"
zone.name_servers = [{{ name = "ns1.example", addresses = ["192.0.2.1", "2001:db8::1"] }}]
"""
        )
    (service, _policy), *_ = load(folder=str(tmp_path), env={}).services
    assert service.nameservers == asked


def write(path, hostname):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{provider("a")}[[service]]\nname="s"\nhostname="{hostname}"\n')


def provider(name, kind="cdn"):
    return f'[[provider]]\nname="{name}"\nkind="{kind}"\ncname="{name}.example"\n'


def hostname_of(loaded) -> str:
    return loaded.services[0][0].hostname


def test_the_search_path_in_its_order(tmp_path):
    here, home = tmp_path / "here", tmp_path / "home"
    env = {"XDG_CONFIG_HOME": str(home), "HOME": str(tmp_path / "user")}
    write(home / "polycdn" / "polycdn.toml", "xdg.example")
    assert hostname_of(load(env=env, folder=str(here))) == "xdg.example"
    write(tmp_path / "user" / ".config" / "polycdn" / "polycdn.toml", "user.example")
    assert hostname_of(load(env={"HOME": str(tmp_path / "user")}, folder=str(here))) == "user.example"
    write(tmp_path / "named.toml", "variable.example")
    env["POLYCDN_CONFIG"] = str(tmp_path / "named.toml")
    assert hostname_of(load(env=env, folder=str(here))) == "variable.example"
    write(here / "polycdn.toml", "here.example")
    assert hostname_of(load(env=env, folder=str(here))) == "here.example"
    write(here / "other.toml", "option.example")
    assert hostname_of(load("other.toml", env=env, folder=str(here))) == "option.example"


def test_no_config_is_none_for_who_can_do_without(tmp_path):
    env = {"HOME": str(tmp_path)}
    assert load_if_any(env=env, folder=str(tmp_path)) is None
    with pytest.raises(ConfigError):
        load_if_any("none.toml", env=env, folder=str(tmp_path))
    write(tmp_path / "polycdn.toml", "here.example")
    assert load_if_any(env=env, folder=str(tmp_path)) is not None


def test_conf_d_is_merged_in_order_of_names(tmp_path):
    write(tmp_path / "polycdn.toml", "one.example")
    extra = tmp_path / "conf.d"
    extra.mkdir()
    (extra / "20.toml").write_text(f'[policy]\ndwell = "2m"\n{provider("c")}')
    (extra / "10.toml").write_text(f'{provider("b")}[policy]\nsoak = "1m"\n')
    (extra / "note.txt").write_text("not a config")
    loaded = load(env={}, folder=str(tmp_path))
    assert [provider.name for provider in loaded.services[0][0].providers] == ["a", "b", "c"]
    assert (loaded.services[0][1].dwell_ms, loaded.services[0][1].soak_ms) == (120_000, 60_000)
    assert loaded.sources == tuple(
        str(tmp_path / name) for name in ("polycdn.toml", "conf.d/10.toml", "conf.d/20.toml")
    )


def test_faults_name_the_file_of_conf_d_and_nothing_is_said_twice(tmp_path):
    write(tmp_path / "polycdn.toml", "one.example")
    extra = tmp_path / "conf.d"
    extra.mkdir()
    (extra / "1.toml").write_text('\n[policy]\ndwell = "2m"\n')
    (extra / "2.toml").write_text(f'[policy]\ndwell = "3m"\n\n{provider("a", "cnd")}')
    with pytest.raises(ConfigError) as caught:
        load(env={}, folder=str(tmp_path))
    places = [fault.place.removeprefix(f"{extra}/") for fault in caught.value.faults]
    assert places == ["2.toml:2", "2.toml:5", "2.toml:6"]
    assert f"{extra}/1.toml:3" in caught.value.faults[0].allowed


def test_a_broken_file_does_not_make_the_others_look_wrong(tmp_path):
    write(tmp_path / "polycdn.toml", "one.example")
    extra = tmp_path / "conf.d"
    extra.mkdir()
    (tmp_path / "polycdn.toml").write_text("[[provider]\n")
    (extra / "1.toml").write_text(
        '[[service]]\nname="s"\nhostname="s.example"\nproviders=["elsewhere"]\nunknown=1\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(env={}, folder=str(tmp_path))
    places = [fault.place.removeprefix(f"{tmp_path}/") for fault in caught.value.faults]
    assert places == ["conf.d/1.toml:5", "polycdn.toml:1"]


def test_the_environment_overrides_and_its_faults_name_the_variable(tmp_path):
    (tmp_path / "polycdn.toml").write_text(WHOLE)
    env = {
        "POLYCDN_STATE_DIR": "/tmp/elsewhere",
        "POLYCDN_POLICY__DWELL": "5s",
        "POLYCDN_POLICY__TTL_CALM": "10m",
        "POLYCDN_PROVIDER__CDN_A__WEIGHT": "9",
        "POLYCDN_SERVICE__WWW__POLICY__RULE": "latency",
        "POLYCDN_SERVICE__WWW__ALIASES": '["x.example.com"]',
        "POLYCDN_TOKEN": "not ours",
    }
    loaded = load(env=env, folder=str(tmp_path))
    www, policy = loaded.services[0]
    assert loaded.state_dir == "/tmp/elsewhere"
    assert (policy.rule, policy.dwell_ms, policy.ttl_calm_s) == (Rule.LATENCY, 5_000, 600)
    assert www.providers[2].weight == 9
    assert www.aliases == ("x.example.com",)

    bad = {
        "POLYCDN_POLICY__DWELL": "5 apples",
        "POLYCDN_PROVIDER__CDN_X__WEIGHT": "1",
        "POLYCDN_POLICY__DWEL": "1",
    }
    with pytest.raises(ConfigError) as caught:
        load(env=bad, folder=str(tmp_path))
    assert [fault.place for fault in caught.value.faults] == [f"${name}" for name in sorted(bad)]
    assert "POLYCDN_PROVIDER__CDN_" in caught.value.faults[2].remedy


def test_variables_stand_in_texts(tmp_path):
    write(tmp_path / "polycdn.toml", "${NAME}.${ZONE:-example.org}")
    assert hostname_of(load(env={"NAME": "www"}, folder=str(tmp_path))) == "www.example.org"
    (tmp_path / "polycdn.toml").write_text(WHOLE.replace('x = "1"', 'x = "$$5 $HOME"'))
    www = load(env={}, folder=str(tmp_path)).services[0][0]
    assert www.objects[1].expect.headers == (("x", "$5 $HOME"),)


def test_secrets_stay_in_their_files(tmp_path):
    (tmp_path / "v.key").write_text("a very secret secret of a vantage")
    write(tmp_path / "polycdn.toml", "www.example")
    with (tmp_path / "polycdn.toml").open("a") as file:
        file.write('[[vantage]]\nname = "v"\nkey_file = "v.key"\n')
    loaded = load(env={}, folder=str(tmp_path))
    assert loaded.vantages[0].key_file == str(tmp_path / "v.key")
    assert "secret secret" not in repr(loaded)


def test_the_state_directory_by_default():
    assert default_state_dir({"XDG_STATE_HOME": "/x"}) == "/x/polycdn"
    assert default_state_dir({"HOME": "/home/u"}) in ("/var/lib/polycdn", "/home/u/.local/state/polycdn")


def test_the_starter_has_the_defaults_that_it_claims(tmp_path):
    (tmp_path / "polycdn.toml").write_text(STARTER)
    loaded = load(env={}, folder=str(tmp_path))
    assert loaded.services[0][1] == Policy()
    commented = STARTER.replace("# ", "").replace("#", "")
    assert "[[surface]]" in commented


def test_two_thousand_services_load_in_seconds(tmp_path):
    services = "".join(f'[[service]]\nname="s{n}"\nhostname="s{n}.example"\n' for n in range(2_000))
    (tmp_path / "polycdn.toml").write_text(provider("a") + provider("b") + services)
    assert len(load(env={}, folder=str(tmp_path)).services) == 2_000


def test_pydantic_is_imported_only_when_a_config_is_loaded():
    code = "import sys, polycdn.config.load, polycdn.config.loaded; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
