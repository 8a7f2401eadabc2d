"""Every story goes as it is told. `STORIES=rewrite` tells them anew; read the diff before you keep it."""

import os
from pathlib import Path

import pytest
from stories import play

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story_goes_as_it_is_told(path):
    told = path.read_text()
    today = play(told)
    if os.environ.get("STORIES") == "rewrite":
        path.write_text(today)
    assert today == told


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story_is_short_and_says_what_it_is_about(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 150
    assert lines[0].startswith("# ")
    assert any(line.startswith("> ") for line in lines)
