"""The disk tier through the real edge: killed, full, damaged; requests go on and no byte is wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alone import alone
from engine_process import poll
from providers import Provider, get, parse
from vast import BLOCK, Vast, octets

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

ROOT = Path(__file__).parent.parent.parent
HEADS = 'polycdn_cache_disk_records{kind="head"}'


def test_no_byte_is_wrong_after_the_edge_was_killed_under_load(tmp_path):
    words = ["--kills", "3", "--objects", "2000", "--restarts", "1", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "disk" / "run.py"), *words], capture_output=True, check=False
    )
    assert (tmp_path / "disk.json").exists(), done.stderr.decode()
    result = json.loads((tmp_path / "disk.json").read_text())
    assert result["kills"]["wrong"] == []
    assert result["kills"]["answers"] > 0


def test_a_disk_that_takes_no_more_is_gone_around_and_told(tmp_path):
    origin = Vast(100_000)
    words = ("--disk", f"{tmp_path / 'disk'}:64MB")
    with Provider(origin.behave) as provider, alone(provider.port, words=words) as edge:
        resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
        for number in range(5):
            target = f"/{number}"
            for _ in range(2):
                assert parse(edge.raw(get(target))).body == octets(0, 100_000)
        poll(lambda: edge.metric("polycdn_cache_disk_off") == 1, "the tier is not switched off")
        assert edge.metric("polycdn_cache_disk_errors_total") >= 3
        reply = parse(edge.raw(get("/0")))
        assert "; hit" in str(reply.value("cache-status"))
        assert reply.body == octets(0, 100_000)
        assert len(origin.asked) == 5


@pytest.mark.parametrize("length", [100_000, 3 * BLOCK])
def test_what_was_damaged_on_disk_comes_from_the_origin_again(tmp_path, length):
    origin = Vast(length)
    folder = tmp_path / "disk"
    words = ("--disk", f"{folder}:64MB")
    with Provider(origin.behave) as provider:
        with alone(provider.port, words=words) as edge:
            assert parse(edge.raw(get())).body == octets(0, length)
            poll(lambda: edge.metric(HEADS) >= 1, "nothing is written")
            assert edge.stop() == 0
        for segment in folder.glob("segment-*"):
            content = bytearray(segment.read_bytes())
            # In the body of the only object, beyond its head.
            content[50_000] ^= 1
            segment.write_bytes(content)
        with alone(provider.port, words=words) as edge:
            assert parse(edge.raw(get())).body == octets(0, length)
            assert edge.metric("polycdn_cache_disk_damaged_total") >= 1
        assert len(origin.asked) >= 2


def test_segments_that_vanish_while_it_runs_are_gone_around(tmp_path):
    origin = Vast(100_000)
    folder = tmp_path / "disk"
    words = ("--disk", f"{folder}:64MB")
    with Provider(origin.behave) as provider:
        with alone(provider.port, words=words) as edge:
            edge.raw(get())
            poll(lambda: edge.metric(HEADS) >= 1, "nothing is written")
            edge.process.send_signal(signal.SIGKILL)
            edge.process.wait()
        with alone(provider.port, words=words) as edge:
            for segment in folder.glob("segment-*"):
                os.truncate(segment, 0)
            for _ in range(2):
                assert parse(edge.raw(get())).body == octets(0, 100_000)
        assert len(origin.asked) == 2
