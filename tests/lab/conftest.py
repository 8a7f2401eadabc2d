"""Fixtures of the lab's tests; the stage itself is lab_stage.py."""

import pytest
from lab_stage import Certified

from polycdn.lab.certs import make_authority
from polycdn.run.clock import Wall


@pytest.fixture(scope="session")
def certified(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    return Certified(make_authority(directory, Wall().now_ms()), directory)
