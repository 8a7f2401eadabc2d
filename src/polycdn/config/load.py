"""The door of the room: a config file, or every fault in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from polycdn.config.environ import apply_environment, expand_variables
from polycdn.config.loaded import Loaded
from polycdn.config.read import Tree, find, read_tree, search
from polycdn.errors import ConfigError, Fault

if TYPE_CHECKING:
    from polycdn.config.checked import Checked
    from polycdn.config.schema import Root
    from polycdn.config.table import Table

T = TypeVar("T", bound="Table")


def load(path: str | None = None, env: Mapping[str, str] | None = None, folder: str | None = None) -> Loaded:
    """The config at `path`, or the first of the search path from `folder` (default: the working directory).

    `env` are the environment's variables, by default this process's. Raises ConfigError with all faults.
    """
    env = os.environ if env is None else env
    here = Path(folder) if folder is not None else Path.cwd()
    main = here / find(path, env, here)
    faults: list[Fault] = []
    tree = read_tree(main, faults)
    apply_environment(tree, env, faults)
    expand_variables(tree, env, faults)
    root = _check(tree, faults)
    if root is None or faults:
        raise ConfigError(in_reading_order(faults))

    from polycdn.config.build import build

    return build(
        root, root.state_dir or default_state_dir(env), tuple(source.name for source in tree.sources)
    )


def in_reading_order(faults: list[Fault]) -> tuple[Fault, ...]:
    """Each fault once, as somebody who mends them wants to meet them."""
    return tuple(sorted(dict.fromkeys(faults), key=_reading_order))


def _reading_order(fault: Fault) -> tuple[bool, str, int]:
    """Files in the order of their names, from top to bottom; the environment last."""
    name, _, line = fault.place.rpartition(":")
    return fault.place.startswith("$"), name or fault.place, int(line) if line.isdecimal() else 0


def load_if_any(
    path: str | None = None, env: Mapping[str, str] | None = None, folder: str | None = None
) -> Loaded | None:
    """As `load`, but None when no config is named and none is found."""
    here = Path(folder) if folder is not None else Path.cwd()
    if path is None and search(os.environ if env is None else env, here) is None:
        return None
    return load(path, env, folder)


def _check(tree: Tree, faults: list[Fault]) -> "Root | None":
    """The tree as the schema has it; None, and faults, when it does not fit."""
    from polycdn.config.rules import check_rules
    from polycdn.config.schema import Root

    root, checked = fit(tree, Root, faults)
    if tree.is_whole:
        check_rules(checked)
    return root


def fit(tree: Tree, kind: type[T], faults: list[Fault]) -> "tuple[T | None, Checked]":
    """The tree as this table, None when it does not fit, and what further rules read."""
    # pydantic takes a while to import, and only who loads a config needs it.
    from pydantic import ValidationError

    from polycdn.config.checked import Checked
    from polycdn.config.complain import faults_of
    from polycdn.config.dialect import Spelling, spell
    from polycdn.config.files import check_files

    spelling = Spelling(tree, faults)
    values = spell(spelling, kind, tree.values, (), ())
    found = None
    try:
        found = kind.model_validate(values)
    except ValidationError as error:
        faults += faults_of(error, spelling, kind)
    checked = Checked(values, spelling)
    check_files(checked)
    return found, checked


def default_state_dir(env: Mapping[str, str]) -> str:
    """Where state is kept when the config does not say."""
    if env.get("XDG_STATE_HOME"):
        return str(Path(env["XDG_STATE_HOME"]) / "polycdn")
    if os.geteuid() == 0:
        return "/var/lib/polycdn"
    return str(Path(env.get("HOME") or "/") / ".local" / "state" / "polycdn")
