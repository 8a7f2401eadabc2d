"""What several files of engine tests begin with."""

from collections.abc import Iterator

import pytest
from gated import Gated, gated
from providers import Provider, answer


@pytest.fixture
def one() -> Iterator[Gated]:
    """An edge whose gate is told by each test."""
    with gated() as running:
        yield running


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that answers well."""
    with Provider(answer()) as running:
        yield running
