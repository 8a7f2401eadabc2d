"""What the throughput benchmark makes of its measures, and what its page tells."""

from pathlib import Path

import pytest
from throughput import peers, rows
from throughput.figures import Measure, best, cpu_figure, over, ratio
from throughput.load import told_by_h2load
from throughput.page import missed, page
from throughput.peers import CONFIGS, written
from throughput.rounds import doubts
from throughput.rows import Kind, Unit
from throughput.serving import Site


def measures(*figures, p99_ms=None, faults=()):
    return [Measure(figure, 1_000.0, 1.0, p99_ms, faults=faults) for figure in figures]


def result(measured, skipped=None):
    """A result with these rounds: row -> target -> measures."""
    names = {name for by_target in measured.values() for name in by_target}
    return {
        "command": "python bench/throughput/run.py",
        "date": "2026-11-20T10:00:00+00:00",
        "machine": {"cores": 2, "cpu": "a processor", "system": "Linux", "load_1m": 0.5},
        "rounds": 3,
        "seconds": 1,
        "wall_s": 9.0,
        "versions": {name: f"{name} 1.0" for name in sorted(names)},
        "notes": {},
        "skipped": skipped or {},
        "missed": [],
        "measures": {
            row: {name: [one.stored() for one in rounds] for name, rounds in by_target.items()}
            for row, by_target in measured.items()
        },
    }


def test_cpu_is_told_in_microseconds_per_request_and_seconds_per_gib():
    assert cpu_figure(Unit.REQUEST, 3_000_000, 200, 1) == 15.0
    assert cpu_figure(Unit.BYTES, 500_000_000, 1, 2 << 30) == 0.25
    assert cpu_figure(Unit.REQUEST, 3_000_000, 0, 0) is None


def test_a_ratio_compares_only_measures_of_the_same_round():
    ours, theirs = measures(10, 40, 12), measures(20, 80, 10)
    found = ratio(ours, theirs)
    assert (found.median, found.least, found.most) == (0.5, 0.5, 1.2)
    assert over(ours).median / over(theirs).median == 0.6


def test_a_round_that_failed_leaves_its_place_empty():
    assert ratio(measures(None, 30), measures(10, 20)).count == 1
    assert over(measures(None, None)) is None


def test_the_best_peer_is_the_least_median_without_a_fault():
    wrong = measures(1, 1, 1, faults=("2 errors, the first: wrong bytes",))
    assert best({"a": measures(9, 5, 6), "b": measures(1, 7, 8), "c": wrong}) == "a"
    assert best({"c": wrong}) is None


def test_a_measure_comes_back_from_the_file_as_it_was():
    kept = Measure(12.5, 100.0, faults=("one", "two"))
    assert Measure.of(kept.stored()) == kept
    assert Measure.of({}) == Measure()


def test_the_page_names_peer_ratio_spread_and_floor():
    shown = page(
        result(
            {
                "hit_1k": {
                    "limit": measures(7, 7, 7),
                    "polycdn": measures(9, 10, 11, p99_ms=2.0),
                    "nginx": measures(20, 20, 20, p99_ms=4.0),
                    "haproxy": measures(12, 10, 11, p99_ms=3.0),
                }
            }
        )
    )
    assert (
        "| hit, 1 KiB, HTTP/1.1 | haproxy | 11.0 (10.0-12.0) us | 10.0 (9.0-11.0) us | 1.00 (0.75-1.00) "
        "| 2.00, 3.00 | 7.0 (7.0-7.0) us |"
    ) in shown
    assert "| nginx | 20.0 (20.0-20.0) | 1,000 | 1.00 | 4.00 |  |" in shown


def test_the_page_tells_who_was_left_out_and_why():
    shown = page(
        result(
            {"range": {"nginx": measures(1)}},
            {"all": {"squid": "squid is not installed"}, "range": {"haproxy": "range: status 200"}},
        )
    )
    assert "| squid | - | left out: squid is not installed |" in shown
    assert "| haproxy | | | | | left out: range: status 200 |" in shown


def test_a_figure_or_a_tail_worse_than_the_best_peers_is_a_missed_aim():
    found = missed(
        result(
            {
                "hit_1k": {"polycdn": measures(9, p99_ms=3.0), "nginx": measures(10, p99_ms=2.0)},
                "miss": {"polycdn": measures(30), "nginx": measures(20), "limit": measures(5)},
                "memory": {"polycdn": measures(39), "nginx": measures(8)},
                "cold_start": {"polycdn": measures(151), "nginx": measures(20)},
            }
        )
    )
    assert found == [
        "hit_1k: p99 1.50 times nginx's",
        "miss: 1.50 times nginx's",
        "cold_start: 151.0 ms, aim 150",
    ]


def test_a_wrong_answer_of_ours_is_a_missed_aim_whatever_its_speed():
    wrong = measures(1, faults=("not all were hits: the origin saw 3 requests",))
    found = missed(result({"hit_1k": {"polycdn": wrong}}, {"range": {"polycdn": "range: status 200"}}))
    assert found == [
        "hit_1k: not all were hits: the origin saw 3 requests",
        "range: range: status 200",
    ]


@pytest.mark.parametrize(
    ("kind", "requests", "asked", "words"),
    [
        (Kind.HIT, 500, 0, ""),
        (Kind.HIT, 500, 1, "the origin saw 1 requests"),
        (Kind.MISS, 500, 564, ""),
        (Kind.MISS, 500, 499, "the origin saw 499 of 500"),
        (Kind.STORM, 200, 1, ""),
        (Kind.STORM, 199, 1, "199 of 200 clients"),
    ],
)
def test_the_origins_count_has_to_fit_the_answers(kind, requests, asked, words):
    found = doubts(kind, requests, asked)
    assert words in found[0] if words else found == ()


SAID = """Application protocol: h2
finished in 1.00s, 3.00 req/s, 3.00KB/s
requests: 4 total, 4 started, 4 done, 3 succeeded, 1 failed, 0 errored, 0 timeout
traffic: 3.10KB (3174) total, 102B (102) headers (space savings 90.00%), 3.00KB (3072) data
"""


def test_h2loads_log_gives_the_percentiles_and_its_report_the_faults():
    log = "1\t200\t1000\n2\t200\t9000\n3\t200\t2000\n4\t503\t100\n"
    burst = told_by_h2load(SAID, log, 1)
    assert (burst.requests, burst.body_bytes) == (3, 3072)
    assert (burst.p50_ms, burst.p99_ms, burst.worst_ms) == (2.0, 9.0, 9.0)
    assert burst.faults == ("1 failed", "1 answers were not 200")


def test_h2load_without_http2_or_without_answers_is_a_fault():
    assert told_by_h2load(SAID.replace(": h2", ": http/1.1"), "1\t200\t1000\n", 1).faults[-1] == "not HTTP/2"
    assert told_by_h2load("", "", 1).faults == ("no request was answered with 200",)


def test_rows_and_targets_come_in_the_tables_order_and_unknown_ones_are_named():
    assert [row.name for row in rows.chosen("storm,hit_1k")] == ["hit_1k", "storm"]
    assert [target.name for target in peers.chosen("nginx,polycdn")] == ["polycdn", "nginx"]
    assert len(rows.chosen("")) == 15
    with pytest.raises(ValueError, match=r"no row is called hit_2k; there are hit_1k"):
        rows.chosen("hit_2k")
    with pytest.raises(ValueError, match=r"no target is called ngnix; there are limit"):
        peers.chosen("ngnix")


def test_every_row_has_its_tool_and_every_aim_its_row():
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    assert set(rows.ABSOLUTE_AIMS) < set(names)
    assert {row.file for row in rows.ROWS} <= set(rows.FILES)
    assert all(set(target.cannot) <= set(names) for target in peers.TARGETS)


@pytest.mark.parametrize("path", sorted(path for path in CONFIGS.rglob("*") if path.is_file()), ids=str)
def test_every_word_of_a_configuration_is_filled_in(path, tmp_path):
    site = Site(tmp_path, 1001, 1002, 1003, 1004, 1005, *(Path(f"/{name}") for name in "abcde"))
    made = written(site, str(path.relative_to(CONFIGS)), user="somebody", tls_folder="/tls")
    left = Path(made).read_text()
    assert not [word for word in left.split() if word.startswith("@") and word.strip("\"';,/").endswith("@")]
    for word in ("@http@", "@https@", "@origin@", "@folder@", "@certificate@", "@key@", "@pem@", "@user@"):
        assert word not in left


def test_a_missing_program_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("BENCH_ENVOY", "/nowhere/envoy")
    envoy = peers.chosen("envoy")[0]
    assert envoy.found() == "/nowhere/envoy is no program (`make peers`, or BENCH_ENVOY=PATH)"
