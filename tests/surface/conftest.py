"""Lets these tests import the fakes, which are programs too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))
