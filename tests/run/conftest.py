"""Lets these tests import the fakes, which are programs too; a folder for what they start."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from polycdn.run.layout import Layout
from polycdn.run.running import down

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is; whatever runs there is ended."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    asyncio.run(down(Layout(made / "state")))
    shutil.rmtree(made)
