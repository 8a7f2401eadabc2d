"""A page in a real browser, where there is one: what its scripts load is seen too."""

import asyncio
from dataclasses import replace

import pytest
from internet_stage import internet, shop_plan

from polycdn.audit.browser import Browser, BrowserError, find_browser
from polycdn.audit.collect import Asked, collect_evidence
from polycdn.audit.evidence import PageSource, ResourceKind, Role
from polycdn.lab.internet.plan import Site

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(120),
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine (make browser)"),
]

PAGE = b"""<html><head><script src="https://cdn.tags.test/t.js"></script></head><body>hello
<script>const s = document.createElement("script"); s.src = "https://late.post.test/l.js";
document.body.append(s)</script>"""


def browser_of(means):
    """A browser that finds the lab's hosts on the lab's port, and believes its certificates."""
    port = next(real[1] for seen, real in means.places.moved.items() if seen[1] == 443)
    rules = f"--host-resolver-rules=MAP *:443 127.0.0.1:{port}"
    return Browser(find_browser().program, (rules, "--ignore-certificate-errors"), is_trusting=True)


def test_what_scripts_load_is_seen_and_followed(tmp_path):
    plan = shop_plan()
    plan.zones["post.test."].add("late.post.test.", "A", plan.address("Late"))
    plan.site(Site("www.shop.test", "Lab Trust", body=PAGE))
    plan.site(Site("late.post.test", "Lab Trust", body=b"1", content_type="text/javascript"))

    async def run():
        async with internet(plan, tmp_path) as means:
            limits = replace(means.limits, seconds=60, page_ms=15_000)
            means = replace(means, browser=browser_of(means), limits=limits)
            return await collect_evidence([Asked("www.shop.test.")], means)

    evidence = asyncio.run(run())
    pages = {page.source: page for page in evidence.pages("https://www.shop.test/")}
    loaded = {each.url: each for each in pages[PageSource.BROWSER].resources}
    assert loaded["https://cdn.tags.test/t.js"].blocking
    assert loaded["https://late.post.test/l.js"].kind is ResourceKind.SCRIPT
    assert not loaded["https://late.post.test/l.js"].blocking
    hosts = {each.name for each in evidence.children("www.shop.test.") if each.role is Role.THIRD_PARTY}
    assert hosts == {"cdn.tags.test.", "late.post.test."}


def test_a_page_that_is_not_there_is_told():
    browser = Browser(find_browser().program, ("--host-resolver-rules=MAP * ~NOTFOUND",), is_trusting=True)
    with pytest.raises(BrowserError, match="ERR_"):
        asyncio.run(browser.load("https://nobody.test/", 20))


def test_a_program_that_is_no_browser_is_told():
    with pytest.raises(BrowserError):
        asyncio.run(Browser("/bin/true", is_trusting=True).load("https://nobody.test/", 3))


def test_root_does_not_open_strangers_pages(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(BrowserError, match="sandbox"):
        asyncio.run(Browser("/bin/true").load("https://nobody.test/", 3))
