"""Every mistake is found, with its line, what is allowed and a remedy; all at once, never a traceback."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn.config.load import load
from polycdn.config.starter import STARTER
from polycdn.errors import ConfigError, Fault

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority

BASE = """\
[[provider]]
name = "a"
kind = "cdn"
addresses = ["192.0.2.1"]

[[provider]]
name = "b"
kind = "cdn"
cname = "b.example"

[[service]]
name = "www"
hostname = "www.example.com"
"""


def faults_in(folder: Path, text: str, **env: str) -> tuple[Fault, ...]:
    path = folder / "polycdn.toml"
    path.write_text(text)
    try:
        load(str(path), env=env)
    except ConfigError as error:
        assert error.exit_code == 2
        for fault in error.faults:
            assert fault.found and fault.allowed and fault.remedy
            assert "Error" not in str(fault)
        return error.faults
    return ()


def test_the_base_of_these_tests_is_valid(tmp_path):
    assert faults_in(tmp_path, BASE) == ()


# What is put into BASE (in place of the first text), the line of the fault, and words of it.
ONE = {
    "unknown key": (
        'kind = "cdn"',
        'kind = "cdn"\nkinds = 1',
        4,
        "unknown key `kinds`",
        "did you mean `kind`?",
    ),
    "unknown table": ("[[service]]", "[polici]\n[[service]]", 11, "unknown key `polici`", "`policy`"),
    "wrong unit": ('kind = "cdn"', 'kind = "cdn"\ncapacity = "3 parsecs"', 4, "3 parsecs", "10 Gbit/s"),
    "no unit": ('kind = "cdn"', 'kind = "cdn"\nfloor = 30', 4, "30 (a number)", "30%"),
    "a unit of another kind": (
        "[[service]]",
        '[policy]\ndwell = "30%"\n[[service]]',
        12,
        "30%",
        "a duration",
    ),
    "a text under a key with its unit": (
        "[[service]]",
        '[policy]\ndwell_ms = "1m"\n[[service]]',
        12,
        '"1m"',
        "",
    ),
    "given twice": (
        "[[service]]",
        '[policy]\ndwell_ms = 60000\ndwell = "1m"\n[[service]]',
        13,
        "both `dwell` and `dwell_ms`",
        "one of them",
    ),
    "wrong type": ('name = "www"', "name = 3", 12, "3 (a number)", "quotes"),
    "wrong choice": ('kind = "cdn"', 'kind = "cnd"', 3, '"cnd"', 'did you mean "cdn"?'),
    "missing key": ('kind = "cdn"\n', "", 1, "no `kind`", "cdn"),
    "duplicate provider": ('name = "b"', 'name = "a"', 7, 'provider "a" a second time', "polycdn.toml:2"),
    "reserved provider": ('name = "b"', 'name = "origin"', 7, '"origin"', "rename"),
    "another reserved one": ('name = "b"', 'name = "nameserver"', 7, '"nameserver"', "rename"),
    "bad name": ('name = "b"', 'name = "b b"', 7, '"b b"', "letters"),
    "unknown provider": (
        'name = "www"',
        'name = "www"\nproviders = ["a", "bb"]',
        13,
        '"bb"',
        'did you mean "b"?',
    ),
    "provider listed twice": ('name = "www"', 'name = "www"\nproviders = ["a", "a"]', 13, '"a" a second', ""),
    "empty providers": ('name = "www"', 'name = "www"\nproviders = []', 13, "no providers", "at least one"),
    "unknown region": ('kind = "cdn"', 'kind = "cdn"\nregions = ["mars"]', 4, 'region "mars"', "anywhere"),
    "bad address": ('["192.0.2.1"]', '["192.0.2.256"]', 4, "192.0.2.256", "an IP address"),
    "no place": ('cname = "b.example"\n', "", 6, "no place to connect", "`addresses`"),
    "bad hostname": ('"www.example.com"', '"www..example.com"', 13, "www..example.com", "hostname"),
    "hostname with scheme": ('"www.example.com"', '"https://www.example.com"', 13, "https://", "no scheme"),
    "hostname not ASCII": ('"www.example.com"', '"www.exämple.com"', 13, "exämple", "xn--exmple-cua"),
    "share over 100 %": ('kind = "cdn"', 'kind = "cdn"\nceiling = "130%"', 4, '"130%"', "from 0.01% to 100%"),
    "floor over ceiling": (
        'kind = "cdn"',
        'kind = "cdn"\nfloor = "60%"\nceiling = "50%"',
        4,
        "floor 60%",
        "at most the ceiling, 50%",
    ),
    "not out of bounds by a hair": (
        "[[service]]",
        '[policy]\nfalse_alarm = "3651d"\n[[service]]',
        12,
        "3651d",
        "3650d",
    ),
    "ttl in doubt longer": (
        "[[service]]",
        '[policy]\nttl_calm = "5s"\n[[service]]',
        12,
        "`ttl_doubt` 10s",
        "at most `ttl_calm`, 5s",
    ),
    "hold-down over its maximum": ("[[service]]", '[policy]\nhold_down = "3h"\n[[service]]', 12, "3h", "2h"),
    "evidence dies too soon": (
        "[[service]]",
        '[policy]\nprobe_interval = "2m"\n[[service]]',
        12,
        "`probe_interval` 2m",
        "`evidence_age_max`, 1m",
    ),
    "own edge without one": (
        "[[service]]",
        '[policy]\non_total_loss = "own_edge"\n[[service]]',
        12,
        "own_edge",
        "edge",
    ),
    "one bracket": ("[[service]]", "[service]", 11, "{...} (a table)", "[[...]]"),
    "bad path": ('name = "www"', 'name = "www"\nobject = ["x"]', 13, '"x"', "starts with /"),
    "bad digest": (
        'name = "www"',
        'name = "www"\nobject = [{ path = "/", expect = { sha256 = "12" } }]',
        13,
        '"12"',
        "64 hexadecimal",
    ),
    "bad origin": ('name = "www"', 'name = "www"\norigin = "ftp://x"', 13, '"ftp://x"', "https://"),
    "port out of range": ('kind = "cdn"', 'kind = "cdn"\nport = 70000', 4, "70000", "from 1 to 65535"),
    "CA file missing": ('kind = "cdn"', 'kind = "cdn"\nca_file = "no.pem"', 4, "does not exist", "path"),
    "a folder as key": (
        "[[service]]",
        '[[vantage]]\nname = "v"\nkey_file = "."\n[[service]]',
        13,
        "no file",
        "path",
    ),
    "a NUL in a path": (
        "[[service]]",
        '[[vantage]]\nname = "v"\nkey_file = "a\\u0000b"\n[[service]]',
        13,
        "which",
        "path",
    ),
    "bad prefix": (
        "[[service]]",
        '[[region]]\nname = "eu"\nprefixes = ["10.0.0.1/8"]\n[[service]]',
        13,
        "10.0.0.1/8",
        '"10.0.0.0/8"',
    ),
    "no variable": ('"www.example.com"', '"${NO_SUCH}.example.com"', 13, "${NO_SUCH}", "set NO_SUCH"),
    "unknown surface kind": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="fed"\n[[service]]',
        13,
        '"fed"',
        '"feed"',
    ),
    "feed without address": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="feed"\n[[service]]',
        11,
        "no `listen`",
        "",
    ),
    "bad listen address": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="feed"\nlisten="localhost:80"\n[[service]]',
        14,
        "localhost:80",
        "127.0.0.1:8080",
    ),
    "key of another kind": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="memory"\nhttp=["127.0.0.1:80"]\n[[service]]',
        14,
        "`http` of a memory surface",
        "remove it",
    ),
    "HTTPS without certificate": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="edge"\nhttps=["127.0.0.1:443"]\n[[service]]',
        14,
        "without a certificate",
        "cert_file",
    ),
    "a zone that holds no service": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="dns"\ndns=["127.0.0.1:53"]\n'
        'zone={apex="example.org", name_servers=["ns.example.org"], mailbox="a@example.org"}\n[[service]]',
        15,
        'zone "example.org"',
        "another zone",
    ),
    "the same address twice": (
        "[[service]]",
        '[[surface]]\nname="s"\nkind="feed"\nlisten="127.0.0.1:8460"\n'
        '[listen]\nobservations="127.0.0.1:8460"\n[[service]]',
        14,
        "a second time",
        "16",
    ),
    "syntax": ('hostname = "www.example.com"', "hostname = www", 13, "Invalid value", "quotes"),
    "key twice": ('name = "www"', 'name = "www"\nname = "x"', 13, "overwrite", "syntax"),
}


@pytest.mark.parametrize("name", ONE)
def test_a_mistake_is_found_on_its_line(tmp_path, name):
    old, new, line, found, hint = ONE[name]
    assert old in BASE
    faults = faults_in(tmp_path, BASE.replace(old, new, 1))
    at_line = [fault for fault in faults if fault.place == f"{tmp_path}/polycdn.toml:{line}"]
    assert at_line, [str(fault) for fault in faults]
    assert any(found in fault.found and hint in f"{fault.allowed} {fault.remedy}" for fault in at_line), [
        str(fault) for fault in at_line
    ]


def test_all_faults_are_listed_at_once_in_order(tmp_path):
    text = BASE.replace('kind = "cdn"', 'kind = "cdn"\nfloor = "130%"\nunknown = 1\ncapacity = "1 apple"')
    text += 'providers = ["zz"]\n[service.policy]\ndwell = 3\n[[vantage]]\nname = "v"\nkey_file = "none"\n'
    faults = faults_in(tmp_path, text)
    lines = [int(fault.place.rpartition(":")[2]) for fault in faults]
    assert lines == sorted(lines)
    assert len(faults) == 2 * 4 + 3
    assert len(set(faults)) == len(faults)


def test_floors_over_100_percent_together(tmp_path):
    text = BASE.replace('kind = "cdn"', 'kind = "cdn"\nfloor = "60%"')
    (fault,) = faults_in(tmp_path, text)
    assert "floors sum to 120%" in fault.found
    assert faults_in(tmp_path, text.replace("60%", "50%")) == ()


def test_ceilings_under_100_percent_together(tmp_path):
    text = BASE.replace('kind = "cdn"', 'kind = "cdn"\nceiling = "40%"')
    (fault,) = faults_in(tmp_path, text)
    assert "ceilings sum to 80%" in fault.found


def test_a_region_without_provider_is_a_fault(tmp_path):
    text = BASE.replace('kind = "cdn"', 'kind = "cdn"\nregions = ["eu"]')
    text += '[[region]]\nname = "eu"\n[[region]]\nname = "us"\n'
    (fault,) = faults_in(tmp_path, text)
    assert 'region "us": no provider' in fault.found


def test_a_prefix_in_two_regions_is_a_fault_a_longer_one_inside_is_not(tmp_path):
    regions = (
        '[[region]]\nname = "eu"\nprefixes = ["10.0.0.0/8"]\n[[region]]\nname = "us"\nprefixes = ["{}"]\n'
    )
    (fault,) = faults_in(tmp_path, BASE + regions.format("10.0.0.0/8"))
    assert fault.place.endswith(":19")
    assert 'region "eu"' in fault.found
    assert faults_in(tmp_path, BASE + regions.format("10.1.0.0/16")) == ()


def test_hostnames_and_aliases_belong_to_one_service(tmp_path):
    text = BASE + '[[service]]\nname = "two"\nhostname = "two.example"\naliases = ["WWW.example.com."]\n'
    (fault,) = faults_in(tmp_path, text)
    assert fault.place.endswith(":17")
    assert "hostname" in fault.found


def test_an_unreadable_file_is_a_fault(tmp_path):
    key = tmp_path / "v.key"
    key.write_text("x" * 40)
    text = BASE + '[[vantage]]\nname = "v"\nkey_file = "v.key"\n'
    assert faults_in(tmp_path, text) == ()
    key.write_text("short")
    assert "5 bytes" in faults_in(tmp_path, text)[0].found
    if os.geteuid() != 0:
        key.chmod(0)
        assert "cannot be read" in faults_in(tmp_path, text)[0].found


def test_certificates_must_belong_together(tmp_path):
    authority = OwnAuthority(tmp_path)
    one, other = authority.leaf("www.example.com"), authority.leaf("other.test")
    surface = '[[surface]]\nname = "e"\nkind = "edge"\nhttps = ["127.0.0.1:0"]\n'

    def with_pair(cert: str, key: str):
        return faults_in(
            tmp_path, BASE + surface + f'certificates = [{{ cert_file = "{cert}", key_file = "{key}" }}]\n'
        )

    assert with_pair(*one) == ()
    assert with_pair(Path(one[0]).name, Path(one[1]).name) == ()
    assert "TLS does not take" in with_pair(one[0], other[1])[0].found
    assert "does not exist" in with_pair(one[0], "missing.key")[0].found


def test_a_ca_file_without_certificates_is_a_fault(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing here")
    (fault,) = faults_in(tmp_path, BASE.replace('name = "a"', 'name = "a"\nca_file = "ca.pem"'))
    assert fault.place.endswith(":3")
    assert "finds no certificate" in fault.found


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "polycdn.toml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ConfigError) as caught:
        load(str(path), env={})
    (fault,) = caught.value.faults
    assert "100000000 bytes" in fault.found
    assert "1 MiB" in fault.allowed


def test_invalid_utf_8_has_its_line(tmp_path):
    path = tmp_path / "polycdn.toml"
    path.write_bytes(BASE.encode() + b'company = "\xff"\n')
    with pytest.raises(ConfigError) as caught:
        load(str(path), env={})
    (fault,) = caught.value.faults
    assert fault.place == f"{path}:14"
    assert "0xff" in fault.found


@pytest.mark.parametrize(
    "content",
    [
        "",
        ".".join("a" * 900) + " = 1",
        "a = " + "{a=" * 200 + "1" + "}" * 200,
        "\ufeff",
        "[" * 200_000,
        "a = " + "[" * 3_000,
        "\0",
        "a = 1\r",
    ],
)
def test_odd_files_are_faults_not_errors(tmp_path, content):
    assert faults_in(tmp_path, content)


def test_a_missing_file_a_folder_and_no_config_at_all_are_faults(tmp_path):
    for path, words in ((tmp_path / "none.toml", "No such file"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=words):
            load(str(path), env={})
    with pytest.raises(ConfigError, match="polycdn init"):
        load(None, env={"HOME": str(tmp_path)}, folder=str(tmp_path))


LINES = STARTER.splitlines()
MEDDLING = st.lists(
    st.tuples(
        st.integers(0, len(LINES) - 1),
        st.sampled_from(["drop", "double", "swap value", "cut", "uncomment"]),
        st.sampled_from(
            ["1", '""', "[]", "{}", "true", '"x"', "1979-05-27", "[[]]", '["a", 1]', "-1", "1.5", "[{}]"]
        ),
    ),
    min_size=1,
    max_size=4,
)


def meddled(lines: list[str], changes) -> str:
    lines = list(lines)
    for index, how, value in changes:
        line = lines[index]
        if how == "drop":
            lines[index] = ""
        elif how == "double":
            lines[index] = f"{line}\n{line}"
        elif how == "swap value" and "=" in line:
            lines[index] = f"{line.partition('=')[0]}= {value}"
        elif how == "cut":
            lines[index] = line[: len(line) // 2]
        elif how == "uncomment":
            lines[index] = line.removeprefix("# ")
    return "\n".join(lines)


@settings(max_examples=150, deadline=None)
@given(MEDDLING)
def test_however_a_config_is_spoiled_it_loads_or_tells_its_faults(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("spoiled")
    faults_in(folder, meddled(LINES, changes))
