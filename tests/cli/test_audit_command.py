"""`polycdn audit`: what it prints, what it writes, how it ends; all from evidence, without a look-up."""

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "audit"))

from audit_stage import facts as any_fact
from small import NOW_MS, asked, evidence, look, page, sound, without, zone

from polycdn.audit.evidence import Role, Target, Unseen, evidence_of
from polycdn.audit.evidence_file import write_evidence
from polycdn.audit.findings import audit_of
from polycdn.audit.report import as_object, schema
from polycdn.cli.audit_commands import asked_of_config as of_config
from polycdn.cli.audit_page import page as html_page
from polycdn.cli.main import main


@pytest.fixture
def run(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["audit", *map(str, words)])
        shown = capsys.readouterr()
        return end.value.code, shown.out, shown.err

    return call


@pytest.fixture
def sick(tmp_path):
    """A file of a service with one operator, something blocking, and something unseen."""
    facts = without(
        sound(),
        *zone("shop.test.", "ns1.first-dns.net."),
        page("shop.test", ("https://t.tags.net/<b>.js", True, False)),
    )
    facts += [
        Target("t.tags.net.", Role.THIRD_PARTY, "r", 1, "shop.test."),
        *zone("tags.net.", "ns1.first-dns.net."),
    ]
    return kept(tmp_path, [*facts, Unseen("shop.test.", "browser", "not configured: no Chromium")])


def kept(folder, facts):
    path = folder / "e.jsonl"
    write_evidence(evidence(facts), path)
    return path


def faults_of(value, rule, root, place="$"):
    """What a value breaks of a JSON schema; knows the words that ours uses, and no others."""
    if "$ref" in rule:
        return faults_of(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, place)
    known = {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "minimum",
        "maximum",
    }
    assert set(rule) <= known | {"$schema", "$defs", "title", "description", "format"}
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
    }
    kinds["number"] = (int, float)
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(
        isinstance(value, kinds[name]) and not (isinstance(value, bool) and name in ("integer", "number"))
        for name in names
    ):
        return [f"{place}: {value!r} is no {names}"]
    found = []
    if "enum" in rule and value not in rule["enum"]:
        found.append(f"{place}: {value!r} is not in the list")
    if "const" in rule and value != rule["const"]:
        found.append(f"{place}: {value!r}")
    if isinstance(value, int | float) and not rule.get("minimum", value) <= value <= rule.get(
        "maximum", value
    ):
        found.append(f"{place}: {value} is out of bounds")
    if isinstance(value, dict):
        found += [f"{place}: no {name}" for name in rule.get("required", []) if name not in value]
        found += [f"{place}: {name} is not known" for name in value if name not in rule["properties"]]
        for name, each in value.items():
            found += faults_of(each, rule["properties"].get(name, {}), root, f"{place}.{name}")
    if isinstance(value, list):
        for at, each in enumerate(value):
            found += faults_of(each, rule.get("items", {}), root, f"{place}[{at}]")
    return found


def test_the_terminal_shows_the_table_the_findings_and_the_tree(run, sick):
    code, out, _ = run("--evidence", sick)
    assert code == 0
    assert "Who is who" in out
    assert "first-dns.net alone answers for shop.test" in " ".join(out.split())
    assert "! host: shop.test" in out
    assert "could not be seen (UNKNOWN, not fine)" in out


def test_json_is_what_the_exported_schema_says(run, sick):
    code, out, _ = run("--evidence", sick, "--json")
    shown = json.loads(out)
    rules = json.loads(run("--schema")[1])
    assert code == 0
    assert rules == schema()
    assert faults_of(shown, rules, rules) == []
    assert faults_of(shown | {"users": -1}, rules, rules)
    assert datetime.fromisoformat(shown["evidence_started"]).timestamp() * 1_000 == NOW_MS
    assert shown["counts"]["high"] == sum(each["severity"] == "high" for each in shown["findings"]) > 0


def test_the_page_is_one_file_without_scripts_and_says_the_evidence_on_hover(run, sick, tmp_path):
    assert run("--evidence", sick, "--html", tmp_path / "r.html")[0] == 0
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", text)
    assert '<path class="edge critical"' in text
    assert "nameservers ns1.first-dns.net</title>" in text
    assert "&lt;b&gt;.js" in text
    assert "<b>.js" not in text


@pytest.mark.parametrize(
    ("severity", "code"), [("critical", 0), ("high", 1), ("medium", 1), ("low", 1), ("unknown", 1)]
)
def test_fail_on_decides_the_exit_code(run, sick, severity, code):
    assert run("--evidence", sick, "--fail-on", severity)[0] == code


def test_only_fail_on_unknown_fails_on_what_was_not_seen(run, tmp_path):
    path = kept(tmp_path, [*sound(), Unseen("shop.test.", "browser", "deadline")])
    assert run("--evidence", path, "--fail-on", "low")[0] == 0
    assert run("--evidence", path, "--fail-on", "unknown")[0] == 1


def test_a_sound_service_passes_every_gate(run, tmp_path):
    code, out, _ = run("--evidence", kept(tmp_path, sound()), "--fail-on", "unknown")
    assert code == 0
    assert "0 findings" in out


def test_more_users_lose_more(run, sick):
    few = json.loads(run("--evidence", sick, "--json", "--users", "1000")[1])
    many = json.loads(run("--evidence", sick, "--json", "--users", "2000")[1])
    assert many["findings"][0]["user_minutes_a_year"] >= 2 * few["findings"][0]["user_minutes_a_year"] > 0


def test_a_recording_adds_pages_to_what_is_read_again(run, tmp_path):
    har = tmp_path / "p.har"
    request = {
        "request": {"url": "https://w.widgets.net/w.js"},
        "response": {"status": 200, "content": {"mimeType": "text/javascript"}},
    }
    first = {
        "request": {"url": "https://shop.test/"},
        "response": {"status": 200, "content": {"mimeType": "text/html"}},
    }
    har.write_text(json.dumps({"log": {"version": "1.2", "entries": [first, request]}}))
    shown = json.loads(run("--evidence", kept(tmp_path, sound()), "--har", har, "--json")[1])
    assert shown["services"][0]["hosts"][0]["third_parties"] == ["w.widgets.net"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no domain"),
        (("a b",), "a b"),
        (("localhost",), "a domain name such as"),
        (("https://",), "domain"),
        (("example.com", "--fail-on", "loud"), "critical, high, medium, low, unknown"),
        (("--evidence", "/nowhere/e.jsonl"), "/nowhere/e.jsonl"),
        (("example.com", "--evidence", "e.jsonl"), "--evidence"),
        (("example.com", "--har", "/nowhere.har"), "/nowhere.har"),
        (("example.com", "--zone", "/nowhere.zone"), "/nowhere.zone"),
        (("--config", "/nowhere.toml"), "/nowhere.toml"),
        (("example.com", "--depth", "-1"), "--depth"),
        (("example.com", "--budget", "0"), "--budget"),
    ],
)
def test_bad_input_ends_with_one_message_and_exit_code_2(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{}\n", b'{"kind":"polycdn-evidence"}\n', b"[" * 100_000]
)
def test_garbage_for_evidence_is_refused(run, tmp_path, content):
    path = tmp_path / "e.jsonl"
    path.write_bytes(content)
    code, _, err = run("--evidence", path)
    assert code == 2
    assert str(path) in err


def test_what_is_not_to_be_written_is_said(run, sick):
    code, _, err = run("--evidence", sick, "--html", "/nowhere/r.html")
    assert code == 3
    assert "/nowhere/r.html cannot be written" in err


def test_the_command_ends_with_its_code_as_a_process(sick):
    words = [sys.executable, "-m", "polycdn", "audit", "--evidence", str(sick), "--fail-on", "high"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_very_large_graph_is_drawn_in_part_and_says_so():
    many = [page("shop.test", *((f"https://h{at}.tags.net/x.js", True, False) for at in range(400)))]
    shown = as_object(audit_of(evidence(without(sound(), *many))), "1")
    assert re.search(r"\d+ nodes further away are not drawn", html_page(shown))


@settings(max_examples=40, deadline=None)
@given(st.lists(any_fact(), max_size=20))
def test_any_evidence_is_an_object_of_the_schema_and_a_page(many):
    shown = as_object(audit_of(evidence_of([asked(), look("shop.test.", "A"), *many], NOW_MS)), "1")
    rules = schema()
    assert faults_of(json.loads(json.dumps(shown)), rules, rules) == []
    assert html_page(shown).endswith("</html>\n")


CONFIG = """
[audit]
login = ["login.shop.test"]
status = ["status.shop.test"]
[[provider]]
name = "a"
kind = "cdn"
cname = "shop.cdn-a.test"
[[provider]]
name = "b"
kind = "edge"
addresses = ["192.0.2.10"]
[[service]]
name = "shop"
hostname = "www.shop.test"
providers = ["a", "b"]
origin = "https://origin.shop.test"
"""


def test_a_config_names_services_providers_origins_logins_and_status_pages(tmp_path):
    path = tmp_path / "polycdn.toml"
    path.write_text(CONFIG)
    named = {(each.name, str(each.role), each.why, each.server_name) for each in of_config(str(path))}
    assert named == {
        ("www.shop.test.", "service", "asked for", ""),
        ("shop.cdn-a.test.", "cdn", "provider of www.shop.test.: a", "www.shop.test."),
        ("www.shop.test.", "cdn", "provider of www.shop.test.: b at 192.0.2.10", ""),
        ("origin.shop.test.", "cloud", "origin of www.shop.test.", ""),
        ("login.shop.test.", "identity", "login of the operators", ""),
        ("status.shop.test.", "status", "status page", ""),
    }
