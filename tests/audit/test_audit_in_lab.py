"""`polycdn audit` from the words to the exit code, in a small internet, and again from its own file."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest
from internet_stage import shop_plan

from polycdn.audit.places import written_places
from polycdn.cli.main import run_command
from polycdn.lab.internet.plan import Site
from polycdn.lab.internet.world import Internet
from polycdn.run.clock import Wall

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


@contextmanager
def lab(plan, directory):
    """The words that lead the command into a small internet, which runs beside in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    world = Internet(plan, Wall(), directory)

    def done(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)

    done(world.__aenter__())
    try:
        (directory / "places").write_text(written_places(world.places))
        (directory / "networks.csv").write_text(plan.networks_csv())
        table = str(directory / "networks.bin")
        assert run_command(["data", "import", str(directory / "networks.csv"), "--into", table]) == 0
        yield [
            "--places", str(directory / "places"), "--root", world.roots[0], "--ca-file", world.ca_file,
            "--networks", table,
        ]  # fmt: skip
    finally:
        done(world.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def told(capsys, *words):
    """Exit code and JSON of a command."""
    capsys.readouterr()
    code = run_command(["audit", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_audit_and_its_file_say_the_same(tmp_path, capsys):
    kept = str(tmp_path / "kept.jsonl")
    with lab(shop_plan(), tmp_path) as words:
        code, first = told(capsys, "shop.test", *words, "--save", kept, "--fail-on", "high")
    assert code == 1
    assert {"one-dns-operator", "third-party-blocks"} <= {each["kind"] for each in first["findings"]}
    code, again = told(capsys, "--evidence", kept)
    assert code == 0
    assert again == first


def test_the_bars_of_ci_are_where_they_were_set(tmp_path, capsys):
    with lab(shop_plan(), tmp_path) as words:
        kept = str(tmp_path / "kept.jsonl")
        assert told(capsys, "shop.test", *words, "--save", kept, "--fail-on", "critical")[0] == 0
    assert told(capsys, "--evidence", kept, "--fail-on", "low")[0] == 1


def test_a_recording_and_a_zone_file_are_read(tmp_path, capsys):
    entries = [
        {"request": {"url": url}, "response": {"status": 200, "content": {"mimeType": mime}}}
        for url, mime in (
            ("https://www.shop.test/", "text/html"),
            ("https://mail.post.test/x.js", "javascript"),
        )
    ]
    (tmp_path / "shop.har").write_text(json.dumps({"log": {"entries": entries}}))
    (tmp_path / "shop.zone").write_text(
        "$ORIGIN shop.test.\n@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS ns1.beta-dns.net.\n"
        "@ 60 IN NS ns1.alpha-dns.test.\nwww 60 IN CNAME edge7.edge-cdn.net.\n"
    )
    with lab(shop_plan(), tmp_path) as words:
        sources = ["--har", str(tmp_path / "shop.har"), "--zone", str(tmp_path / "shop.zone")]
        kept = ["--save", str(tmp_path / "kept.jsonl")]
        _code, found = told(capsys, "shop.test", *words, *sources, *kept)
    kinds = {(each["kind"], each["subject"]) for each in found["findings"]}
    assert not any(kind == "one-dns-operator" for kind, _subject in kinds), "the zone file has two"
    assert "mail.post.test." in (tmp_path / "kept.jsonl").read_text()


def test_a_resolver_can_be_asked_instead_and_ttls_are_unknown_then(tmp_path, capsys):
    plan = shop_plan()
    plan.site(Site("shop.test", "Lab Trust"))
    address = plan.operators["alpha-dns.test."].servers[0][1]
    with lab(plan, tmp_path) as words:
        words += ["--resolver", address, "--save", str(tmp_path / "kept.jsonl")]
        _code, found = told(capsys, "shop.test", *words)
    assert any("ttl" in each["title"] for each in found["findings"] if each["severity"] == "unknown")
