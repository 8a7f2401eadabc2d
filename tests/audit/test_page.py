"""What a page loads, off its HTML: kinds, what blocks, what is pinned, what has another way."""

import pytest

from polycdn.audit.evidence import ResourceKind
from polycdn.audit.page import page_of

BASE = "https://shop.test/a/"


def only(html):
    (resource,) = page_of(BASE, html.encode()).resources
    return resource


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ('<script src="x.js">', "https://shop.test/a/x.js"),
        ("<script src='/x.js'>", "https://shop.test/x.js"),
        ("<SCRIPT SRC=//cdn.test/x.js#part>", "https://cdn.test/x.js"),
        ("<base href=//b.test/><script src=x.js>", "https://b.test/x.js"),
        ('<script src="x.js?a=1&amp;b=2">', "https://shop.test/a/x.js?a=1&b=2"),
        ("<script\n\tsrc = x.js\n>", "https://shop.test/a/x.js"),
        ("<script/src=x.js>", "https://shop.test/a/x.js"),
    ],
)
def test_urls_are_absolute(html, url):
    assert only(html).url == url


@pytest.mark.parametrize(
    ("html", "kind", "blocking"),
    [
        ("<script src=x>", ResourceKind.SCRIPT, True),
        ("<script src=x async>", ResourceKind.SCRIPT, False),
        ("<script src=x defer=''>", ResourceKind.SCRIPT, False),
        ("<script type=module src=x>", ResourceKind.SCRIPT, False),
        ("<p>seen</p><script src=x>", ResourceKind.SCRIPT, False),
        ("<link rel=stylesheet href=x>", ResourceKind.STYLE, True),
        ("<link rel='stylesheet' media=print href=x>", ResourceKind.STYLE, False),
        ("<link rel='preload' as=font href=x>", ResourceKind.FONT, False),
        ("<style>@import 'x';</style>", ResourceKind.STYLE, True),
        ("<style>@import url( x )</style>", ResourceKind.STYLE, True),
        ("<img src=x>", ResourceKind.IMAGE, False),
        ("<iframe src=x><script src=inside.js></script></iframe>", ResourceKind.FRAME, False),
    ],
)
def test_kinds_and_what_is_waited_for(html, kind, blocking):
    found = only(html)
    assert (found.kind, found.blocking) == (kind, blocking)


@pytest.mark.parametrize(
    "html",
    [
        "<!-- <script src=x></script> -->",
        "<script>'<script src=x>'</script>",
        "<noscript><img src=x></noscript>",
        '<div title="<script src=x>">',
        "<textarea><script src=x></textarea>",
        "<template><script src=x></script></template>",
        "<script src='data:text/javascript,1'>",
        "<script src='javascript:1'>",
        "<scripts src=x>",
        "<link rel=stylesheet>",
        "< script src=x>",
    ],
)
def test_what_is_not_loaded_is_not_told(html):
    assert page_of(BASE, html.encode()).resources == ()


def test_pinned_content_and_other_ways_are_told():
    assert only("<script src=x integrity=sha384-abc>").integrity
    assert only("<script src=x onerror='other()'>").fallback
    assert only(
        "<script src=x></script><script>window.j || document.write('<script src=y>')</script>"
    ).fallback
    assert not only("<script src=x></script><script>start()</script>").fallback


def test_a_page_in_another_encoding_is_read():
    assert page_of(BASE, "<script src=x>".encode("utf-16"), charset="utf-16").resources


@pytest.mark.parametrize(
    "unit", ["<div>", "<a x='", "<!--", "<img src=x>", "<script></script>", "<a " + " " * 999]
)
def test_a_page_without_end_is_read_in_part_and_soon(unit):
    page = page_of(BASE, (unit * (2_000_000 // len(unit))).encode())
    assert len(page.resources) <= 1
