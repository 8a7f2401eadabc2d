"""`polycdn audit` from end to end: real look-ups in the lab internet, then the kept evidence offline."""

import asyncio
import json

import pytest
from internet_stage import internet, shop_plan

from polycdn.audit.places import written_places
from polycdn.cli.main import run_command

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def test_a_live_audit_and_its_evidence_say_the_same(tmp_path, capsys):
    kept = tmp_path / "shop.jsonl"

    async def audited():
        async with internet(shop_plan(), tmp_path) as means:
            (tmp_path / "places").write_text(written_places(means.places.moved))
            words = [
                "audit",
                "shop.test",
                "--places",
                str(tmp_path / "places"),
                "--ca-file",
                str(means.ca_file),
            ]
            words += ["--networks", str(means.networks), "--save", str(kept), "--json", "--fail-on", "high"]
            words += [word for root in means.roots for word in ("--root", root)]
            return await asyncio.to_thread(run_command, words)

    assert asyncio.run(audited()) == 1
    live = json.loads(capsys.readouterr().out)
    assert run_command(["audit", "--evidence", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == live
    assert {"one-dns-operator", "one-carrier", "third-party-blocks", "hidden-dependency"} <= {
        each["kind"] for each in live["findings"]
    }
    hosts = {host["name"]: host for host in live["services"][0]["hosts"]}
    assert [each["id"] for each in hosts["www.shop.test"]["carriers"]] == ["edge-cdn.net"]
    assert hosts["www.shop.test"]["third_parties"] == ["cdn.tags.test"]
