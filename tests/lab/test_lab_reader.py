"""The reader's figures, from logs written by hand."""

import json

import pytest

from polycdn.lab.reader import (
    Applied,
    Follower,
    KindFigures,
    evacuated_ms,
    executed_twice,
    failures_over_time,
    faults_applied,
    kind_figures,
    late_ms_p99,
    not_sent,
    read_lines,
)

SICK, WELL = "127.0.0.2", "127.0.0.3"


def raw(at_ms, reason="ok", client="dns", kind="feed-get", target=SICK, total_ms=5, late_ms=0):
    fields = {"at_ms": at_ms, "client": client, "kind": kind, "key": f"{client}/{at_ms}", "target": target}
    fields |= {"ok": reason == "ok", "reason": reason, "first_byte_ms": 1, "total_ms": total_ms}
    return json.dumps(fields | {"bytes": 9, "late_ms": late_ms})


@pytest.fixture
def lines_of(tmp_path):
    def read(*raws):
        path = tmp_path / "client.requests"
        path.write_text("".join(f"{line}\n" for line in raws))
        return read_lines([path])

    return read


def test_figures_of_one_client_and_kind(lines_of):
    lines = lines_of(
        raw(1_000),
        raw(2_000, "http_5xx", total_ms=70),
        raw(5_500, "timeout", total_ms=900),
        raw(6_000),
        raw(7_000, "reset"),
    )
    assert kind_figures(lines) == (KindFigures("dns", "feed-get", 5, 3, 6_000, 900, 3),)


def test_an_outage_is_counted_by_start_whatever_the_order_of_the_log(lines_of):
    lines = lines_of(raw(9_000, "reset"), raw(1_000, "reset"), raw(5_000))
    assert kind_figures(lines)[0].longest_outage_s == 0
    lines = lines_of(raw(9_000, "reset"), raw(1_000, "reset"), raw(10_000))
    assert kind_figures(lines)[0].longest_outage_s == 8


def test_clients_and_kinds_are_apart(lines_of):
    lines = lines_of(raw(1, client="single"), raw(2, "reset", kind="patch"), raw(3))
    found = {(figures.client, figures.kind): figures.failed_bp for figures in kind_figures(lines)}
    assert found == {("single", "feed-get"): 0, ("dns", "patch"): 10_000, ("dns", "feed-get"): 0}


def test_what_was_not_sent_is_no_attempt(lines_of):
    lines = lines_of(raw(1), raw(2, "blind"))
    assert kind_figures(lines)[0].attempts == 1
    assert not_sent(lines) == 1


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "log"
    path.write_text(raw(1) + "\n" + raw(2)[:30])
    assert [line.at_ms for line in read_lines([path])] == [1]


def test_evacuated_is_the_last_request_to_the_sick_one_before_the_quiet(lines_of):
    lines = lines_of(
        raw(50_000),
        raw(101_000),
        raw(130_000),
        raw(131_000, client="single"),
        *(raw(at_ms, target=WELL) for at_ms in range(132_000, 400_000, 10_000)),
        raw(390_000),
    )
    assert evacuated_ms(lines, ["dns"], [SICK], 100_000) == 30_000


def test_a_sick_one_that_was_never_left_has_no_evacuation(lines_of):
    lines = lines_of(*(raw(at_ms) for at_ms in range(100_000, 400_000, 10_000)))
    assert evacuated_ms(lines, ["dns"], [SICK], 100_000) is None


def test_a_log_that_ends_too_soon_proves_no_evacuation(lines_of):
    lines = lines_of(raw(101_000), raw(150_000, target=WELL))
    assert evacuated_ms(lines, ["dns"], [SICK], 100_000) is None


def test_who_was_not_there_at_the_fault_is_evacuated_at_once(lines_of):
    lines = lines_of(raw(101_000, target=WELL), raw(300_000, target=WELL))
    assert evacuated_ms(lines, ["dns"], [SICK], 100_000) == 0


def test_failures_over_time_by_bucket(lines_of):
    lines = lines_of(raw(1_000), raw(1_900, "reset"), raw(4_000), raw(1_500, client="single"))
    assert failures_over_time(lines, 1_000) == (
        ("dns", ((1_000, 2, 1), (4_000, 1, 0))),
        ("single", ((1_000, 1, 0),)),
    )


def test_lateness(lines_of):
    lines = lines_of(*(raw(at_ms, late_ms=at_ms) for at_ms in range(200)))
    assert late_ms_p99(lines) == 198
    assert late_ms_p99(()) == 0


def test_a_key_that_two_origins_executed_is_told(tmp_path):
    for name, keys in (("one", "abc"), ("two", "bd")):
        lines = [json.dumps({"key": key, "executed": key != "c"}) for key in keys]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    assert executed_twice([tmp_path / "one", tmp_path / "two"]) == (("b", 2),)


def test_faults_are_summed_up(tmp_path):
    log = tmp_path / "alpha.faults"
    faults = [{"at_ms": at_ms, "provider": "alpha", "key": "k", "kind": "reset"} for at_ms in (5, 3, 9)]
    faults.append({"at_ms": 4, "provider": "alpha", "error": "a broken file"})
    log.write_text("".join(json.dumps(fault) + "\n" for fault in faults))
    assert faults_applied([log]) == (Applied("alpha", "reset", 3, 3, 9),)


def test_a_follower_reads_each_line_once_and_no_half_ones(tmp_path):
    path = tmp_path / "log"
    follower = Follower()
    path.write_text(raw(1) + "\n" + raw(2)[:10])
    assert [line.at_ms for line in follower.fresh([path])] == [1]
    path.write_text(raw(1) + "\n" + raw(2) + "\n" + raw(3) + "\n")
    assert [line.at_ms for line in follower.fresh([path])] == [2, 3]
    assert follower.fresh([path]) == ()
