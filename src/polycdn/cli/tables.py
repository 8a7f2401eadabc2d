"""Tables of figures in the terminal."""

from collections.abc import Iterable

from rich.table import Table


def add_heads(table: Table, heads: Iterable[str]) -> None:
    """Adds a column a head: the first one text, the others figures."""
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
