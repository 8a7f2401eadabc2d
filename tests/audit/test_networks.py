"""The table of networks: imported once, searched on disk."""

import gzip
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.audit.evidence import NetworkLook
from polycdn.audit.networks import Networks, default_table
from polycdn.audit.networks_import import flat, import_networks
from polycdn.cli.main import run_command
from polycdn.errors import ConfigError

CSV = """start,end,asn,organisation
192.0.2.0,192.0.2.127,64512,"Some, Inc."
192.0.2.128,192.0.2.255,AS64513,Other
2001:db8::,2001:db8::ffff,64512,"Some, Inc."
"""


def test_an_address_is_found_in_its_network(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"198.51.100.0,198.51.100.0,1,Packed\n"))
    assert import_networks([tmp_path / "a.csv", tmp_path / "b.csv.gz"], tmp_path / "deep" / "n.bin") == 4
    with Networks(tmp_path / "deep" / "n.bin") as networks:
        first = NetworkLook("192.0.2.127", 64512, "Some, Inc.", "192.0.2.0-192.0.2.127")
        assert networks.look("192.0.2.127") == first
        assert networks.look("192.0.2.128").organisation == "Other"
        assert networks.look("2001:db8::1").asn == 64512
        assert networks.look("198.51.100.0").organisation == "Packed"
        for outside in ("192.0.3.0", "198.51.100.1", "2001:db8::1:0", "0.0.0.0", "::", "no address"):
            assert networks.look(outside) == NetworkLook(outside, 0)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("192.0.2.9,192.0.2.1,1,x", "a range from"),
        ("192.0.2.0,2001:db8::,1,x", "a range from"),
        ("192.0.2.0,192.0.2.300,1,x", "192.0.2.300"),
        ("192.0.2.0,192.0.2.1,many,x", "AS number"),
        ("192.0.2.0,192.0.2.1,4294967296,x", "AS number"),
        ("192.0.2.0,192.0.2.1", "2 fields"),
        ("x" * 5_000, "more than 4096 bytes"),
    ],
)
def test_a_bad_line_is_told_and_the_old_table_stays(tmp_path, line, found):
    (tmp_path / "a.csv").write_text(CSV)
    import_networks([tmp_path / "a.csv"], tmp_path / "n.bin")
    (tmp_path / "b.csv").write_text(CSV + line + "\n")
    with pytest.raises(ConfigError) as caught:
        import_networks([tmp_path / "b.csv"], tmp_path / "n.bin")
    assert found in str(caught.value)
    with Networks(tmp_path / "n.bin") as networks:
        assert networks.look("192.0.2.1").asn == 64512


def test_a_cut_table_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    import_networks([tmp_path / "a.csv"], tmp_path / "n.bin")
    whole = (tmp_path / "n.bin").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "n.bin").write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="data import"):
            Networks(tmp_path / "n.bin")


spans = st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(1, 5))


@given(st.lists(spans, max_size=8))
def test_overlaps_go_to_whoever_begins_last(rows):
    made = [
        (ip_address(first).packed, ip_address(first + more).packed, asn, "x") for first, more, asn in rows
    ]
    found = flat(made)
    assert all(one[1] < two[0] for one, two in pairwise(found))
    for number in range(90):
        key = ip_address(number).packed
        around = [row for row in made if row[0] <= key <= row[1]]
        (told,) = [row for row in found if row[0] <= key <= row[1]] or [None]
        assert (told is None) == (not around)
        if told is not None:
            latest = max(row[0] for row in around)
            narrowest = min(row[1] for row in around if row[0] == latest)
            assert told[2] in {row[2] for row in around if (row[0], row[1]) == (latest, narrowest)}


def test_the_command_imports_into_the_users_own_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    (tmp_path / "a.csv").write_text(CSV)
    assert run_command(["data", "import", str(tmp_path / "a.csv")]) == 0
    assert "3 networks" in capsys.readouterr().out
    assert default_table().exists()
    with pytest.raises(ConfigError, match="No such file"):
        run_command(["data", "import", str(tmp_path / "none.csv")])
