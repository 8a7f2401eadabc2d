"""The throughput benchmark as a whole: it notices what is wrong, measures our edge, and ends cleanly."""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from throughput.checks import fault
from throughput.load import Client
from throughput.rows import Kind, chosen
from throughput.scene import prepared
from throughput.serving import Running, Setup

RUN = Path(__file__).parent.parent.parent / "bench" / "throughput" / "run.py"
NO_COMPILER = not any(map(shutil.which, ("cc", "gcc", "clang")))

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(60),
    pytest.mark.skipif(NO_COMPILER, reason="no C compiler (cc, gcc or clang)"),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def origin(scene):
    with scene.origin("alone", 0) as one:
        yield one


def directly_at(scene, origin):
    """A "server" that is nothing but the origin, so that everything is a miss."""
    site = replace(scene.site("direct", origin.port), http=origin.port)
    return Running(site, Setup(()), (), (), 0.0)


def row(name):
    return chosen(name)[0]


def test_a_server_that_asks_the_origin_each_time_is_no_hit(scene, origin):
    direct = directly_at(scene, origin)
    assert fault(row("miss"), direct, origin) is None
    assert "not a hit: the origin saw 1 requests for one" in fault(row("hit_1k"), direct, origin)
    assert "not a hit" in fault(row("not_modified"), direct, origin)


def test_an_origin_that_hears_of_no_miss_is_a_fault(scene, origin):
    with scene.origin("silent", 0) as silent:
        assert fault(row("no_store"), directly_at(scene, origin), silent) == "the origin saw 0 of 3 requests"


def test_wrong_bytes_and_dead_ports_are_faults(scene, origin):
    direct = directly_at(scene, origin)
    other = replace(origin, digests={**origin.digests, "1k": origin.digests["1m"]})
    assert fault(row("hit_1k"), direct, other) == "wrong answer: status 200, 1024 bytes"
    nobody = replace(direct, site=scene.site("nobody", origin.port))
    assert "ConnectionRefusedError" in fault(row("hit_1k"), nobody, origin)


def pulled(scene, name, port, path=None):
    one = row(name)
    client = Client(scene.programs, scene.files, 1, scene.folder / "unused.log")
    return client.burst(one, port, path or one.path, lambda: 0)


@pytest.mark.parametrize("name", ["hit_100k", "hit_100m", "range"])
def test_the_client_counts_every_byte_of_whole_objects_and_ranges(scene, origin, name):
    burst = pulled(scene, name, origin.port)
    length = 1 << 20 if name == "range" else (scene.files / row(name).file).stat().st_size
    assert burst.faults == ()
    assert burst.requests > 0
    assert burst.requests * length < burst.body_bytes < burst.requests * (length + 1_000)
    assert 0 < burst.p50_ms <= burst.p99_ms <= burst.worst_ms


def test_the_client_notices_wrong_bytes_and_wrong_answers(scene, origin):
    assert "wrong status or fields" in pulled(scene, "hit_100k", origin.port, "/100m").faults[0]
    assert "wrong status or fields" in pulled(scene, "not_modified", origin.port).faults[0]
    spoilt = bytearray((scene.files / "100k").read_bytes())
    spoilt[-1] ^= 1
    (scene.folder / "100k").write_bytes(spoilt)
    client = Client(scene.programs, scene.folder, 1, scene.folder / "unused.log")
    assert "wrong bytes" in client.burst(row("hit_100k"), origin.port, "/100k", lambda: 0).faults[0]


def test_a_storm_on_the_bare_origin_is_200_slow_fetches(scene, origin):
    before = origin.asked("/slow/")
    burst = pulled(scene, "storm", origin.port, "/slow/here")
    assert (burst.requests, burst.faults) == (200, ())
    assert origin.asked("/slow/") - before == 200
    assert burst.worst_ms >= 300
    assert row("storm").kind is Kind.STORM


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_a_tiny_round_measures_our_edge(tmp_path):
    names = ["hit_1k", "miss", "storm"]
    words = ["--quick", "--targets", "polycdn", "--rows", ",".join(names), "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, RUN, *words], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    result = json.loads((tmp_path / "throughput.json").read_text())
    assert result["skipped"] == {}
    assert set(result["measures"]) == set(names)
    for name, by_target in result["measures"].items():
        (measure,) = by_target["polycdn"]
        assert measure["figure"] > 0, name
        assert "faults" not in measure, name
    assert result["measures"]["storm"]["polycdn"][0]["extra"] == 1
    shown = (tmp_path / "throughput.md").read_text()
    assert shown in done.stdout
    assert "| hit, 1 KiB, HTTP/1.1 | - | - |" in shown


def test_a_stopped_run_leaves_no_process_and_no_folder():
    command = [sys.executable, RUN, "--targets", "limit", "--rows", "hit_100k", "--rounds", "30"]
    with ExitStack() as stack:
        run = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stack.callback(run.kill)
        line = run.stderr.readline()
        assert "limit runs" in line
        family = children_of(run.pid)
        assert len(family) >= 2
        folders = {path for pid in family for path in folder_of(pid)}
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130
        assert "stopping" in run.stderr.read()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert folders
    assert not [path for path in folders if path.exists()]


def test_without_a_compiler_it_says_so_and_ends_with_3(tmp_path):
    done = subprocess.run(
        [sys.executable, RUN, "--targets", "limit", "--rows", "hit_100k"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
    )
    assert done.returncode == 3
    assert done.stderr == (
        "throughput: no C compiler (cc, gcc or clang) on the path; on Debian: apt-get install gcc\n"
    )


def test_an_unknown_row_ends_with_2_and_the_rows_that_there_are():
    done = subprocess.run([sys.executable, RUN, "--rows", "hit_2k"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no row is called hit_2k; there are hit_1k, hit_1k_tls" in done.stderr


def children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def folder_of(pid):
    """The run's folder, as the process's own program or words name it."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return {Path(word).parent.parent for word in words if word.endswith(("/limit", "/origin"))}
