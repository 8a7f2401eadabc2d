"""The file of `polycdn edge --gate`: who gets in to an edge that has no other config."""

from pathlib import Path
from typing import Any

from pydantic import Field

from polycdn.config.build_gate import access_of, said, signing_of, split
from polycdn.config.load import fit, in_reading_order
from polycdn.config.read import read_tree
from polycdn.config.schema import LimitsTable
from polycdn.config.schema_gate import AccessTable, SigningTable
from polycdn.config.table import Table
from polycdn.errors import ConfigError, Fault
from polycdn.model.settings import ClientLimits, Gate
from polycdn.model.wire import to_json


class GateFile(Table):
    """[limits], [access] and [signing], with the keys that they have in a config."""

    limits: LimitsTable | None = Field(default=None, description="Deadlines and bounds.")
    access: AccessTable | None = Field(default=None, description="Which clients are let in.")
    signing: SigningTable | None = Field(default=None, description="Which URIs are: those with a token.")


def load_gate(path: str) -> dict[str, Any]:
    """`limits` and `gate` of the settings, as far as the file says something of them.

    Raises ConfigError with every fault in it.
    """
    faults: list[Fault] = []
    tree = read_tree(Path.cwd() / path, faults, is_alone=True)
    table, _checked = fit(tree, GateFile, faults)
    if table is None or faults:
        raise ConfigError(in_reading_order(faults))
    limits, clients = split(said(table.limits))
    gate = to_json(Gate(ClientLimits(**clients), access_of(table.access), signing_of(table.signing)))
    return {key: value for key, value in (("limits", limits), ("gate", gate)) if value}
