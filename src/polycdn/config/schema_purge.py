"""The table that says how a provider is told to forget an object."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from polycdn.config.table import Table

FilePath = Annotated[str, Field(min_length=1)]
PURGE_URL: Final = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^/:@\[\]?#{}\s]+)(:[0-9]{1,5})?(/[!-~]*)?")
HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [ -~]*\{token\}[ -~]*")


def _purge_url(text: str) -> str:
    """An URL with words to put in, none of them in the place of the host: a token goes nowhere else."""
    if not PURGE_URL.fullmatch(text):
        raise _wrong(
            "http:// or https:// with a host, and a path; {url}, {host}, {path} in it stand for the object",
            'write it like "https://api.cdn.example/purge/{host}{path}"',
        )
    return text


def _header(text: str) -> str:
    if not HEADER.fullmatch(text):
        raise _wrong("`Name: value` with {token} in the value", 'write it like "Api-Key: {token}"')
    return text


def _method(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{1,20}", text) or text == "HEAD":
        raise _wrong("a method of HTTP in capitals, with an answer", 'write it like "PURGE" or "POST"')
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise _wrong("the name of a variable, not its value", 'write it like "PURGE_TOKEN"')
    return text


def _wrong(allowed: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("polycdn", "{allowed}", {"allowed": allowed, "remedy": remedy})


class PurgeTable(Table):
    """How this provider is told to forget an object; used by `polycdn parity --purge` alone."""

    url: Annotated[str, AfterValidator(_purge_url)] | None = Field(
        default=None,
        description="Where; {url}, {host}, {path} stand for the object. Default: the object at the provider.",
    )
    method: Annotated[str, AfterValidator(_method)] | None = Field(
        default=None, description="Default: PURGE without `url`, else POST."
    )
    body: str | None = Field(
        default=None, max_length=4_096, description="Text to send, JSON; the same words stand for the object."
    )
    header: Annotated[str, AfterValidator(_header)] = Field(
        default="Authorization: Bearer {token}", description="Carries the secret; {token} stands for it."
    )
    token_file: FilePath | None = Field(default=None, description="File with the secret.")
    token_variable: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None, description="Or the variable of the environment that holds it."
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of the authorities to trust at `url`; default: the system's."
    )
