"""Names in their one form: lower case, IDNA A-labels, with the last dot. Pure."""

from typing import Final

import dns.exception
import dns.name
from dns.name import IDNA2008Codec

from polycdn.model.address import is_address

_IDNA: Final = IDNA2008Codec(uts_46=True, transitional=False, allow_pure_ascii=True)
TEXT_CHARACTERS_MAX: Final = 1_100
"""Longer text cannot be a name (RFC 1035 §2.3.4: 255 bytes, each at most four characters of text)."""


def canonical_name(text: str) -> str:
    """The name in its one form ("WWW.Bücher.example" gives "www.xn--bcher-kva.example.").

    Raises ValueError, with what is wrong, for anything that is not a name; "." is none either.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ValueError(f"{len(text)} characters are too many for a name")
    try:
        name = dns.name.from_text(text.strip(), idna_codec=_IDNA)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if name == dns.name.root:
        raise ValueError("an empty name")
    return name_text(name)


def name_text(name: dns.name.Name) -> str:
    """A name off the wire in its one form; bytes that are no letters are told as \\DDD (RFC 1035 §5.1)."""
    return name.canonicalize().to_text()


def is_canonical(text: str) -> bool:
    """Whether this is how `canonical_name` would write it."""
    try:
        return canonical_name(text) == text
    except ValueError:
        return False


def host_of(name: str) -> str:
    """A canonical name as URLs and certificates have it: without the last dot."""
    return name.removesuffix(".")


def name_of_host(host: str) -> str | None:
    """The canonical name of a URL's host; None for an address or for what is no name."""
    if is_address(host.strip("[]")):
        return None
    try:
        return canonical_name(host)
    except ValueError:
        return None


def parents_of(name: str) -> tuple[str, ...]:
    """The name, then each name above it, without the root: "a.b.example.", "b.example.", "example."."""
    labels = name.removesuffix(".").split(".")
    return tuple(".".join(labels[at:]) + "." for at in range(len(labels)))
