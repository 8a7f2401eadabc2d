"""docs/config.md and examples/ say what the schema says."""

import re
import tomllib
from pathlib import Path

from polycdn.config.dialect import short_keys, table_of
from polycdn.config.load import load
from polycdn.config.quantity import UNITS
from polycdn.config.schema import Root

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "config.md").read_text()


def tables(table, found):
    found.add(table)
    for info in table.model_fields.values():
        inner = table_of(info)
        if inner and inner not in found:
            tables(inner, found)
    return found


def test_every_key_is_documented_in_both_spellings():
    for table in tables(Root, set()):
        for key in (*table.model_fields, *short_keys(table)):
            assert (
                f"`{key}`" in PAGE
                or f"[[{key}]]" in PAGE
                or f"[[service.{key}]]" in PAGE
                or f"[{key}]" in PAGE
            ), key


def test_every_unit_is_documented():
    for unit in UNITS:
        for name, _factor in unit.scale:
            assert f"`{name}`" in PAGE, name


def test_toml_blocks_are_toml():
    for block in re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S):
        assert tomllib.loads(block)


def test_the_example_is_valid_and_uses_each_kind_of_table():
    path = ROOT / "examples" / "polycdn.toml"
    loaded = load(str(path), env={})
    assert [service.name for service, _policy in loaded.services] == ["shop", "patches"]
    assert set(tomllib.loads(path.read_text())) == set(Root.model_fields)
