"""The file of `--digests` is checked as a whole before an edge starts, and becomes part of its settings."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from polycdn.cli import digests
from polycdn.cli.digests import DigestsError, read_digests
from polycdn.cli.edge_alone import settings_of
from polycdn.cli.edge_options import add_to, read
from polycdn.cli.engine_command import _parser
from polycdn.model.settings import Digest, Settings
from polycdn.model.wire import canonical, from_json

SUM = sha256(b"x").hexdigest()
BLOCKS = {"size": 2_049, "sha256": SUM.upper(), "block_bytes": 1_024, "block_sha256": [SUM] * 3}


def written(folder: Path, content: object) -> str:
    file = folder / "digests.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_digests_become_part_of_the_settings_as_the_model_has_them(tmp_path: Path) -> None:
    said = {
        "/b": BLOCKS,
        "/a?v=1": {"size": 0, "sha256": SUM},
        "/e": BLOCKS | {"size": 0, "block_sha256": []},
    }
    parser = _parser("edge", "")
    add_to(parser)
    words = ["--origin", "http://a.test", "--listen", "127.0.0.1:0", "--digests", written(tmp_path, said)]
    content = settings_of(read(parser, parser.parse_args(words)))
    settings = from_json(Settings, content)
    assert settings.digests == (
        Digest("/a?v=1", 0, SUM),
        Digest("/b", 2_049, SUM, 1_024, (SUM,) * 3),
        Digest("/e", 0, SUM, 1_024),
    )
    as_the_command_writes_it = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert canonical(settings) == as_the_command_writes_it


WRONG = {
    "an empty file": ("", "not JSON"),
    "half of a file": ('{"/a": {', "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "a list": ([], "an object such as"),
    "nothing in it": ({}, "an object such as"),
    "a key twice": ('{"/a": {"size": 1, "size": 2}}', '"size" a second time'),
    "a path without slash": ({"a": BLOCKS}, '"a"; a path starts with /'),
    "a number for a path's object": ({"/a": 7}, '"/a": 7; allowed: an object'),
    "an unknown key": ({"/a": BLOCKS | {"md5": ""}}, 'unknown key "md5"; allowed: size'),
    "no size": ({"/a": {"sha256": SUM}}, '"/a".size: nothing; allowed: a whole number from 0'),
    "a size that is a text": ({"/a": {"size": "1", "sha256": SUM}}, '.size: "1"'),
    "a size below zero": ({"/a": {"size": -1, "sha256": SUM}}, ".size: -1"),
    "true for a size": ({"/a": {"size": True, "sha256": SUM}}, ".size: true"),
    "a short digest": ({"/a": {"size": 1, "sha256": SUM[1:]}}, "64 hexadecimal digits"),
    "a digest of other letters": ({"/a": {"size": 1, "sha256": "g" * 64}}, "64 hexadecimal digits"),
    "blocks without their size": (
        {"/a": {"size": 1, "sha256": SUM, "block_sha256": [SUM]}},
        "block_bytes: nothing",
    ),
    "tiny blocks": ({"/a": BLOCKS | {"block_bytes": 1}}, "block_bytes: 1; allowed: a whole number from 1024"),
    "too few blocks": ({"/a": BLOCKS | {"block_sha256": [SUM]}}, "allowed: 3: 2049 bytes in blocks of 1024"),
    "a bad block": ({"/a": BLOCKS | {"block_sha256": [SUM, SUM, 5]}}, "block_sha256[2]: 5"),
    "no list of blocks": ({"/a": {**BLOCKS, "block_sha256": SUM}}, "a list with the SHA-256"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_the_file_the_place_and_what_is_allowed(tmp_path: Path, name: str) -> None:
    content, words = WRONG[name]
    file = written(tmp_path, content)
    with pytest.raises(DigestsError) as caught:
        read_digests(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_cannot_be_read_or_is_too_large_is_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(DigestsError, match="No such file"):
        read_digests(str(tmp_path / "none"))
    with pytest.raises(DigestsError, match="Is a directory"):
        read_digests(str(tmp_path))
    monkeypatch.setattr(digests, "FILE_BYTES_MAX", 10)
    with pytest.raises(DigestsError, match="allowed: 10"):
        read_digests(written(tmp_path, {"/a": BLOCKS}))
