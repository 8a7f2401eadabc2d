"""Blast radius: against a plain reading of the same tables, on tables of Hypothesis's making and of ours."""

import csv
import json
import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycdn.audit.blast.closure import Closure, Lean
from polycdn.audit.blast.engine import DuckEngine, open_engine
from polycdn.audit.blast.look import Question, look
from polycdn.audit.blast.numbering import fields_of
from polycdn.audit.blast.one import one_radius
from polycdn.cli.main import run_command
from polycdn.errors import ConfigError, PolycdnError

ROLES = ("ca", "cdn", "dns")
NAMES = ("Ada", "Bob", "Cyd", "Dee", "Eve")

sites_tables = st.dictionaries(
    st.tuples(st.sampled_from([f"s{i}" for i in range(9)]), st.sampled_from(ROLES), st.sampled_from(NAMES)),
    st.tuples(st.booleans(), st.booleans()),
    min_size=1,
    max_size=40,
)
leans_tables = st.sets(
    st.builds(Lean, st.sampled_from(NAMES), st.sampled_from(ROLES), st.sampled_from(NAMES), st.booleans()),
    max_size=10,
)


@pytest.fixture(scope="module")
def duckdb():
    engine = DuckEngine(512)
    yield engine
    engine.close()


def write_tables(folder: Path, sites, leans=()) -> Question:
    with (folder / "sites.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("site", "role", "provider", "critical", "party", "rank"))
        for (site, role, name), (critical, private) in sites.items():
            party = "private" if private else "third"
            writer.writerow((site, role, name, int(critical), party, int(site[1:]) + 1))
    with (folder / "providers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("provider", "role", "depends_on", "critical"))
        writer.writerows((e.provider, e.role, e.depends_on, str(e.critical).lower()) for e in leans)
    providers = (folder / "providers.csv",) if leans else ()
    return Question((folder / "sites.csv",), providers, top=4)


def read_plainly(sites, leans, down):
    """(unreachable, affected, critically reached) by the words of docs/blast.md, one site at a time."""
    fallen, touched, needed = set(down), set(down), set(down)
    names = {*NAMES, *(lean.provider for lean in leans)}
    for _ in names:
        for name in names:
            mine = [lean for lean in leans if lean.provider == name]
            spare = defaultdict(set)
            for lean in mine:
                if not lean.critical:
                    spare[lean.role].add(lean.depends_on)
            if any(e.critical and e.depends_on in fallen for e in mine) or any(
                len(group) > 1 and group <= fallen for group in spare.values()
            ):
                fallen.add(name)
            if any(e.depends_on in touched for e in mine):
                touched.add(name)
            if any(e.critical and e.depends_on in needed for e in mine):
                needed.add(name)
    by_role = defaultdict(dict)
    for (site, role, name), (critical, _) in sites.items():
        by_role[site, role][name] = critical
    gone, hit, critically = set(), set(), set()
    for (site, _), members in by_role.items():
        spare = {name for name, critical in members.items() if not critical}
        if any(c and n in fallen for n, c in members.items()) or (len(spare) > 1 and spare <= fallen):
            gone.add(site)
        if touched & set(members):
            hit.add(site)
        if any(c and n in needed for n, c in members.items()):
            critically.add(site)
    return len(gone), len(hit), len(critically)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sites=sites_tables, leans=leans_tables)
def test_every_figure_of_a_provider_is_that_of_a_plain_reading(duckdb, tmp_path, sites, leans):
    asked = write_tables(tmp_path, sites, leans)
    shown = look(duckdb, asked)
    for each in shown["providers"]:
        gone, hit, critically = read_plainly(sites, leans, {each["provider"]})
        assert (each["unreachable"], each["affected"], each["impact"]) == (gone, hit, critically)
        one = one_radius(duckdb, Question(asked.sites, asked.providers), each["provider"])
        assert (one.unreachable, one.concentration, one.impact) == (gone, hit, critically)
        assert (one.direct, one.impact_direct) == (each["concentration_direct"], each["impact_direct"])
    pairs = shown["pairs"]
    for i, one in enumerate(pairs["providers"]):
        for j, other in enumerate(pairs["providers"]):
            assert pairs["unreachable"][i][j] == read_plainly(sites, leans, {one, other})[0]
    assert shown["sites"] == len({site for site, _, _ in sites})


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sites=sites_tables, leans=leans_tables)
def test_the_order_of_rows_does_not_matter(duckdb, tmp_path, sites, leans):
    there = look(duckdb, write_tables(tmp_path, sites, leans))
    back = look(duckdb, write_tables(tmp_path, dict(reversed(sites.items())), leans))
    assert there == back


def test_a_table_counted_in_parts_gives_the_same_answers(duckdb, tmp_path, monkeypatch):
    crowd = {(f"s{i}", "dns", NAMES[i % 4]): (i % 3 > 0, i % 7 == 0) for i in range(200)}
    crowd |= {(f"s{i}", "cdn", NAMES[i % 5]): (True, False) for i in range(0, 200, 2)}
    crowd |= {("s1", "ca", name): (False, False) for name in NAMES}
    asked = write_tables(tmp_path, crowd)
    whole = look(duckdb, asked)
    monkeypatch.setattr("polycdn.audit.blast.engine.ROW_BYTES", 2_000_000)
    assert len(duckdb.parts(duckdb.read(asked.sites), 305)) == 2
    assert look(duckdb, asked) == whole


def test_one_provider_on_whom_many_hang_is_the_same_by_a_join(duckdb, tmp_path, monkeypatch):
    sites = {(f"s{i}", ROLES[i % 3], NAMES[i % 5]): (i % 2 > 0, False) for i in range(60)}
    sites |= {("s1", "dns", "Ada"): (False, False), ("s1", "dns", "Bob"): (False, False)}
    leans = (Lean("Ada", "dns", "Eve", True), Lean("Bob", "dns", "Eve", True))
    asked = write_tables(tmp_path, sites, leans)
    by_cases = one_radius(duckdb, asked, "Eve")
    monkeypatch.setattr("polycdn.audit.blast.one.CASES_MAX", 0)
    assert one_radius(duckdb, asked, "Eve") == by_cases
    assert by_cases.unreachable == read_plainly(sites, leans, {"Eve"})[0]


def test_one_provider_of_sites_with_many_edges_is_counted_apart(duckdb, tmp_path):
    leans = tuple(Lean(f"p{i}", "dns", "Eve", True) for i in range(30))
    sites = {("s0", "dns", f"p{i}"): (False, False) for i in range(30)}
    sites |= {("s1", role, f"p{i}"): (False, False) for i in range(7) for role in ROLES}
    sites |= {("s2", "dns", f"p{i}"): (False, False) for i in range(29)} | {
        ("s2", "dns", "Ada"): (False, True)
    }
    sites |= {("s3", "ca", "Eve"): (True, False), ("s4", "dns", "Eve"): (False, False)}
    one = one_radius(duckdb, write_tables(tmp_path, sites, leans), "Eve")
    assert (
        (one.unreachable, one.concentration, one.impact) == read_plainly(sites, leans, {"Eve"}) == (3, 5, 1)
    )
    assert (one.direct, one.impact_direct, one.roles) == (2, 1, ("ca", "dns"))


@given(st.integers(1, 300), st.data())
def test_a_sum_tells_its_two_kinds(kinds, data):
    field = fields_of({"dns": kinds}, 15)[0]
    chosen = data.draw(st.lists(st.integers(1, kinds), min_size=1, max_size=2))
    value = sum(field.worth(kind) for kind in chosen) >> field.shift
    assert field.kinds_of(value) == tuple(sorted(chosen))


def test_fields_never_run_over_their_word():
    fields = fields_of(dict.fromkeys(map(str, range(12)), 400), 15)
    for field in fields:
        assert field.shift + field.bits <= 62
        assert 15 * (field.worth(400) >> field.shift) < 1 << field.bits
    assert [(f.word, f.shift) for f in fields] == sorted((f.word, f.shift) for f in fields)
    for before, after in pairwise(fields):
        assert after.word > before.word or after.shift >= before.shift + before.bits


def test_a_redundant_pair_with_one_root_falls_with_it():
    closure = Closure((Lean("Ada", "dns", "Eve", True), Lean("Bob", "dns", "Eve", True)))
    assert closure.fallen(("Eve",)) == {"Ada", "Bob", "Eve"}
    two = Closure((Lean("Ada", "dns", "Cyd", False), Lean("Ada", "dns", "Dee", False)))
    assert two.fallen(("Cyd",)) == {"Cyd"}
    assert two.fallen(("Cyd", "Dee")) == {"Ada", "Cyd", "Dee"}


SMALL = {
    ("s0", "dns", "Ada"): (True, False),
    ("s1", "dns", "Ada"): (False, False),
    ("s1", "dns", "Bob"): (False, False),
    ("s2", "dns", "Own"): (True, True),
    ("s0", "cdn", "Cyd"): (True, False),
    ("s8", "cdn", "Cyd"): (True, False),
}


def test_the_small_table_by_hand(duckdb, tmp_path):
    asked = write_tables(tmp_path, SMALL)
    shown = look(duckdb, Question(asked.sites, (), ("Ada", "Bob"), 7_500, top=2))
    dns = next(role for role in shown["roles"] if role["role"] == "dns")
    assert (dns["sites"], dns["third_party"], dns["critical_third_party"], dns["redundant"]) == (3, 2, 1, 1)
    assert dns["hhi"] == round((2 * 2 + 1 + 1) / 16, 6)
    assert dns["centralization"] == round(6 / 16 - 1 / 4, 6)
    assert shown["any_critical_third_party"] == 2
    assert shown["down"]["unreachable"] == 2
    assert shown["smallest_set"] == {
        "share_bp": 7_500, "providers": ("Cyd", "Own"), "unreachable": 3, "is_proven": True,
    }  # fmt: skip
    ada = next(each for each in shown["second_provider"]["providers"] if each["provider"] == "Ada")
    assert ada["saved_by_role"] == {"cdn": 0, "dns": 1}


def test_trends_tell_what_changed(duckdb, tmp_path):
    (tmp_path / "old").mkdir()
    old = write_tables(tmp_path / "old", SMALL)
    new = write_tables(tmp_path, SMALL | {("s3", "dns", "Ada"): (True, False)})
    shown = look(duckdb, Question(new.sites, before=old.sites))["trends"]
    assert shown["providers"][0] == {"provider": "Ada", "concentration": 1, "impact": 1}
    assert next(role for role in shown["roles"] if role["role"] == "cdn")["hhi"] == 0


BROKEN = {
    "no column": ("site,role,provider\na,dns,x\n", "critical"),
    "no rows": ("site,role,provider,critical\n", "no rows"),
    "empty cell": ("site,role,provider,critical\na,dns,,1\n", "1 rows with an empty"),
    "odd claim": ("site,role,provider,critical\na,dns,x,maybe\n", "unreadable cell"),
    "repeated": ("site,role,provider,critical\na,dns,x,1\na,dns,x,1\n", "several rows for dns at x"),
    "not a table": ("\x00\x01\x02", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_is_one_clear_error(tmp_path, name):
    text, expected = BROKEN[name]
    path = tmp_path / "sites.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run_command(["blast", "--sites", str(path)])
    assert expected in str(caught.value)
    assert "sites.csv" in str(caught.value) or "tables" in str(caught.value)


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"empty cell"}))
def test_a_broken_table_is_one_clear_error_for_one_provider_too(tmp_path, name):
    text, expected = BROKEN[name]
    path = tmp_path / "sites.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run_command(["blast", "--sites", str(path), "--only", "x"])
    assert expected in str(caught.value) or "--only" in str(caught.value)


def test_the_command_prints_the_figures_of_some_alone_as_the_whole_look_has_them(tmp_path, capsys):
    asked = write_tables(tmp_path, SMALL)
    words = ["blast", "--sites", str(asked.sites[0])]
    assert run_command([*words, "--json"]) == 0
    whole = {each["provider"]: each for each in json.loads(capsys.readouterr().out)["providers"]}
    assert run_command([*words, "--only", "Bob, Ada", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["providers"]
    assert shown == [whole[name] | {"unreachable_share": None} for name in ("Bob", "Ada")]
    assert run_command([*words, "--only", "Bob"]) == 0
    assert "Bob" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--only: found 'Zoe'"):
        run_command([*words, "--only", "Zoe"])
    with pytest.raises(ConfigError, match="--down: found beside --only"):
        run_command([*words, "--only", "Bob", "--down", "Ada"])


def test_a_second_provider_for_the_top_needs_ranks(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("site,role,provider,critical\na,dns,x,1\n")
    with pytest.raises(ConfigError, match="add rank"):
        run_command(["blast", "--sites", str(path), "--second", "5"])


def test_sites_with_many_providers_in_a_role_are_read_one_by_one(duckdb, tmp_path):
    crowd = {("s0", "dns", name): (False, False) for name in NAMES}
    crowd |= {("s1", role, name): (True, False) for role in ROLES for name in NAMES}
    crowd |= {("s1", "more", name): (True, False) for name in NAMES}
    asked = write_tables(tmp_path, crowd)
    shown = look(duckdb, Question(asked.sites, (), NAMES))
    assert (shown["sites"], shown["down"]["unreachable"]) == (2, 2)
    assert look(duckdb, Question(asked.sites, (), NAMES[:4]))["down"]["unreachable"] == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), suffix=st.sampled_from((".csv", ".parquet", ".csv.gz")))
def test_garbage_is_refused_or_read_but_never_a_traceback(duckdb, tmp_path, body, suffix):
    path = tmp_path / f"sites{suffix}"
    path.write_bytes(body)
    with pytest.raises(PolycdnError):
        look(duckdb, Question((path,)))


def test_the_command_prints_json_and_writes_a_page_without_outside_resources(tmp_path, capsys):
    asked = write_tables(tmp_path, SMALL)
    page = tmp_path / "page.html"
    words = ["blast", "--sites", str(asked.sites[0]), "--down", "Ada", "--html", str(page), "--json"]
    assert run_command(words) == 0
    assert json.loads(capsys.readouterr().out)["down"]["unreachable"] == 1
    text = page.read_text()
    assert text.count("<svg") == 3 and "http" not in text and "<script" not in text
    assert run_command(["blast", "--sites", str(asked.sites[0]), "--second", "3"]) == 0
    assert "saved by a second provider" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["--share", "0"], "--share"),
        (["--memory", "1"], "--memory"),
        (["--down", "Nobody"], "--down"),
        (["--down", ","], "--down"),
        (["--engine", "abacus"], "--engine"),
        (["--spill", "/nowhere"], "--spill"),
    ],
)
def test_wrong_options_are_named(tmp_path, words, place):
    asked = write_tables(tmp_path, SMALL)
    with pytest.raises(ConfigError, match=place):
        run_command(["blast", "--sites", str(asked.sites[0]), *words])


@pytest.mark.timeout(170)
@pytest.mark.filterwarnings("ignore")  # Spark leaves its sockets to the collector
def test_spark_gives_the_same_answers(duckdb, tmp_path):
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if not shutil.which("java"):
        pytest.skip("no Java")
    crowd = {(f"s{i}", "dns", NAMES[i % 4]): (i % 3 > 0, i % 7 == 0) for i in range(200)}
    crowd |= {(f"s{i}", "cdn", NAMES[i % 5]): (True, False) for i in range(0, 200, 2)}
    crowd |= {("s1", "ca", name): (False, False) for name in NAMES}
    leans = (Lean("Ada", "dns", "Eve", True), Lean("Bob", "dns", "Eve", False))
    asked = write_tables(tmp_path, crowd, leans)
    spark = open_engine("spark", 1_024)
    try:
        assert look(spark, asked) | {"engine": ""} == look(duckdb, asked) | {"engine": ""}
        assert one_radius(spark, asked, "Eve") == one_radius(duckdb, asked, "Eve")
    finally:
        spark.close()
