"""The rig with real processes: all of it serves, and none of it stays."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from lab_stage import HOSTNAME, SMALL, until

from polycdn.errors import UnavailableError
from polycdn.lab.fault import FaultKind, Schedule, Window, fault_for
from polycdn.lab.places import choose_places
from polycdn.lab.reader import executed_twice, faults_applied, kind_figures, read_lines
from polycdn.lab.rig import RigSpec, rig
from polycdn.lab.spec import Aim, LoadSpec, Rates
from polycdn.model.observation import Reason
from polycdn.run.clock import Wall

pytestmark = pytest.mark.lab

RATES = Rates(500, 5_000, 1_000, 1_000, 200)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "Z"


def client(lab, name, provider, **more):
    fields = {"content": SMALL, "rates": RATES, "address": lab.places.address(provider)}
    fields |= {"ca_file": lab.ca_file, "request_log": lab.file(name, ".requests")} | more
    return LoadSpec(lab.process(name), Aim.PINNED, HOSTNAME, lab.places.port, **fields)


def feeds_of(lab):
    lines = read_lines(lab.request_logs())
    return [line for line in lines if line.client == "sick" and line.kind == "feed-get"]


def test_a_lab_serves_fails_as_told_and_leaves_nobody_behind(tmp_path):
    windows = (Window("alpha", 0, 1 << 60, FaultKind.HTTP_5XX, 300_000),)

    async def work():
        async with rig(RigSpec(str(tmp_path), HOSTNAME, content=SMALL, windows=windows), Wall()) as lab:
            await lab.start(client(lab, "sick", "alpha"), client(lab, "well", "beta"))
            pids = lab.pids()
            assert all(map(is_alive, pids))
            assert len(pids) == 2 + 3 + 2
            await until(lambda: len(feeds_of(lab)) > 20, within_s=60)
            await lab.stop("sick", "well")
            figures = feeds_of(lab), kind_figures(read_lines(lab.request_logs()))
        assert not any(map(is_alive, pids))
        return *figures, lab.origin_logs(), lab.fault_logs()

    feeds, figures, origin_logs, fault_logs = asyncio.run(work())
    schedule = Schedule(1, windows)
    for line in feeds:
        is_fated = fault_for(schedule, "alpha", line.key, line.at_ms) is not None
        assert (line.reason is Reason.HTTP_5XX) is is_fated, line
    assert sum(each.failed for each in figures if each.client == "well") == 0
    assert executed_twice(origin_logs) == ()
    assert [applied.kind for applied in faults_applied(fault_logs)] == ["http-5xx"]


def test_all_cdns_share_one_port_on_addresses_of_their_own(tmp_path):
    async def work():
        async with rig(RigSpec(str(tmp_path), HOSTNAME, content=SMALL, origins=1), Wall()) as lab:
            listens = [lab.running(name).listen for name in lab.spec.cdns]
            assert listens == [lab.places.listen(name) for name in lab.spec.cdns]
            assert len({listen.rpartition(":")[0] for listen in listens}) == 3
            assert len({listen.rpartition(":")[2] for listen in listens}) == 1

    asyncio.run(work())


def test_an_error_inside_the_block_leaves_nobody_behind(tmp_path):
    pids = []

    async def work():
        async with rig(RigSpec(str(tmp_path), HOSTNAME, cdns=("alpha",), origins=1), Wall()) as lab:
            pids.extend(lab.pids())
            raise KeyError("something else went wrong")

    with pytest.raises(KeyError):
        asyncio.run(work())
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


PARENT = """
import asyncio, sys
from polycdn.lab.rig import RigSpec, rig
from polycdn.run.clock import Wall

async def work():
    async with rig(RigSpec(sys.argv[1], "service.test", cdns=("alpha",), origins=1), Wall()) as lab:
        print(*lab.pids(), flush=True)
        await asyncio.sleep(60)

asyncio.run(work())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_children_die_with_a_parent_that_is_killed(tmp_path, number):
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.send_signal(number)
        parent.wait()
    asyncio.run(until(lambda: not any(map(is_alive, pids)), within_s=60))


def test_a_process_that_cannot_start_says_why(tmp_path):
    async def work():
        async with rig(RigSpec(str(tmp_path), HOSTNAME, cdns=(), origins=1), Wall()) as lab:
            await lab.start(client(lab, "load", "edge", ca_file="/nowhere/ca.pem"))

    with pytest.raises(UnavailableError, match="load"):
        asyncio.run(work())


def test_a_spec_that_is_wrong_ends_with_exit_code_2(tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"colour": "red"}))
    for arguments in (["origin", str(spec)], ["teapot", str(spec)], ["origin", "/nowhere.json"], []):
        command = [sys.executable, "-m", "polycdn.run.lab_process", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
        assert ended.stderr


def test_places_differ_from_each_other_and_are_free():
    names = tuple(f"cdn-{number}" for number in range(20))
    places = choose_places(names)
    assert Counter(address for _, address in places.addresses).most_common(1)[0][1] == 1
    assert all(address.startswith("127.") for _, address in places.addresses)
    assert places.listen("cdn-3") == f"{places.address('cdn-3')}:{places.port}"
