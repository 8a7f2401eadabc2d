"""A recording of a browser as pages."""

import base64
import json

import pytest

from polycdn.audit.evidence import PageSource, ResourceKind
from polycdn.audit.har import pages_of_har, read_har
from polycdn.errors import ConfigError


def entry(url, status=200, mime="", **more):
    content = {"mimeType": mime, **more.pop("content", {})}
    return {"request": {"url": url}, "response": {"status": status, "content": content}, **more}


def har(*entries):
    return json.dumps({"log": {"version": "1.2", "entries": entries}}).encode()


PAGE = "<html><head><script src=https://t.test/t.js></script><script async src=/late.js></script>"


def test_the_page_is_the_first_answer_that_is_no_redirect():
    (page,) = pages_of_har(
        har(
            entry("http://shop.test/", 301),
            entry("https://shop.test/", mime="text/html"),
            entry("https://t.test/t.js", mime="text/javascript"),
            entry("https://f.test/f", mime="font/woff2"),
            entry("https://i.test/i", mime="image/png"),
            entry("data:text/plain,x"),
        ),
        "x.har",
    )
    assert (page.url, page.source, page.truncated) == ("https://shop.test/", PageSource.HAR, False)
    assert [(each.url, each.kind) for each in page.resources] == [
        ("https://t.test/t.js", ResourceKind.SCRIPT),
        ("https://f.test/f", ResourceKind.FONT),
        ("https://i.test/i", ResourceKind.IMAGE),
    ]


@pytest.mark.parametrize(
    "content",
    [{"text": PAGE}, {"text": base64.b64encode(PAGE.encode()).decode(), "encoding": "base64"}],
)
def test_what_blocks_is_told_by_the_html_when_it_is_there(content):
    (page,) = pages_of_har(
        har(
            entry("https://shop.test/", content=content),
            entry("https://t.test/t.js", _priority="Low"),
            entry("https://shop.test/late.js", _priority="VeryHigh"),
        ),
        "x.har",
    )
    assert [each.blocking for each in page.resources] == [True, False]


def test_what_blocks_is_told_by_the_priority_otherwise():
    (page,) = pages_of_har(
        har(
            entry("https://shop.test/"),
            entry("https://t.test/t.js", _resourceType="script", _priority="VeryHigh"),
            entry("https://t.test/u.js", _resourceType="script", _priority="Low"),
            entry("https://t.test/x", _resourceType="xhr", _priority="VeryHigh"),
        ),
        "x.har",
    )
    assert [each.blocking for each in page.resources] == [True, False, False]


def test_each_page_of_a_recording_is_one():
    pages = pages_of_har(
        har(entry("https://a.test/", pageref="1"), entry("https://b.test/", pageref="2")), "x.har"
    )
    assert [page.url for page in pages] == ["https://a.test/", "https://b.test/"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"log":5}', b'{"log":{"entries":{}}}', b'{"log":{"entries":[1]}}']
)
def test_what_is_no_recording_is_one_clear_error(content):
    with pytest.raises(ConfigError) as caught:
        pages_of_har(content, "x.har")
    assert len(caught.value.faults) == 1


def test_a_recording_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_har(tmp_path / "none.har")
