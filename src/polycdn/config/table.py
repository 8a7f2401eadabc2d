"""What every table of the dialect has in common."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A TOML table. `SHORT` names the key that a plain text in place of the table stands for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    SHORT: ClassVar[str] = ""
