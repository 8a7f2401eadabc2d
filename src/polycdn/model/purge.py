"""How a provider is told to forget an object."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PurgeDoor:
    """One provider's way to purge. `url` "" = the object itself, asked for at the provider's own endpoint.

    In `url` and `body` the words {url}, {host} and {path} stand for the object's. `header` carries the secret
    in place of {token}; the secret is in `token_file` or in the variable `token_variable`; both None = no
    secret, and no header. `ca_file` None = the system's authorities.
    """

    url: str = ""
    method: str = "PURGE"
    body: str | None = None
    header: str = "Authorization: Bearer {token}"
    token_file: str | None = None
    token_variable: str | None = None
    ca_file: str | None = None
