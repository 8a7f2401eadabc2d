"""Lets these tests import the fakes, which are programs too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return OwnAuthority(tmp_path_factory.mktemp("certs"))
