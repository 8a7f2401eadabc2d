"""[provider.purge]: how a provider is told to forget, and every fault with its line."""

from pathlib import Path

import pytest

from polycdn.config.load import load
from polycdn.config.loaded import Loaded
from polycdn.errors import ConfigError
from polycdn.model.purge import PurgeDoor

BASE = """\
[[provider]]
name = "a"
kind = "cdn"
addresses = ["192.0.2.1"]
{purge}
[[provider]]
name = "b"
kind = "cdn"
addresses = ["192.0.2.2"]
[[service]]
name = "www"
hostname = "www.example.com"
[[service]]
name = "shop"
hostname = "shop.example.com"
providers = ["b"]
[[service.provider]]
name = "own"
kind = "edge"
addresses = ["192.0.2.3"]
purge = {{}}
"""


def read(folder: Path, *lines: str) -> Loaded:
    path = folder / "polycdn.toml"
    purge = "\n".join(("[provider.purge]", *lines)) if lines else ""
    path.write_text(BASE.format(purge=purge))
    return load(str(path), env={})


def test_a_door_belongs_to_a_provider_in_every_service_that_it_carries(tmp_path):
    (tmp_path / "key").write_text("s3cret")
    url = 'url = "https://api.a.example/purge?u={url}"'
    found = read(tmp_path, url, 'header = "Api-Key: {token}"', 'token_file = "key"')
    door = PurgeDoor(
        "https://api.a.example/purge?u={url}", "POST", None, "Api-Key: {token}", str(tmp_path / "key")
    )
    assert found.purge_doors("www") == {"a": door}
    assert found.purge_doors("shop") == {"own": PurgeDoor()}
    assert read(tmp_path).purge_doors("www") == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "https://{host}/purge"', "http:// or https://"),
        ('url = "ftp://a.example/"', "http:// or https://"),
        ('url = "https://user@a.example/"', "http:// or https://"),
        ('method = "purge"', "in capitals"),
        ('header = "Api-Key"\ntoken_variable = "KEY"', "{token}"),
        ('header = "Api-Key: {token}\\r\\nX: y"\ntoken_variable = "KEY"', "{token}"),
        ('header = "Api-Key: {token}"', "beside it"),
        ('token_variable = "sk-123"', "not its value"),
        ('token_file = "none"', "does not exist"),
        ('ca_file = "/etc/hostname"', "url"),
        ('boby = "x"', "did you mean `body`"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path, line, words):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *line.split("\n"))
    text = str(caught.value)
    assert words in text
    assert {fault.place for fault in caught.value.faults} == {f"{tmp_path / 'polycdn.toml'}:6"}


def test_two_places_for_one_secret_are_one_too_many(tmp_path):
    (tmp_path / "key").write_text("s3cret")
    with pytest.raises(ConfigError, match="both `token_file` and `token_variable`"):
        read(tmp_path, 'token_file = "key"', 'token_variable = "KEY"')
