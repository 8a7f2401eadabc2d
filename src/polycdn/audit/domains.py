"""Whose name is whose: registrable domains by the public suffix list. Pure, but for reading the list once."""

from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList


@cache
def _suffixes() -> PublicSuffixList:
    """The registries' part of the list only: two customers of one CDN have the same registrable domain."""
    return PublicSuffixList(only_icann=True)


@lru_cache(maxsize=65_536)
def registrable(name: str) -> str:
    """The domain that somebody registered, without the last dot ("ns1.example.co.uk." gives "example.co.uk").

    A public suffix, or a name without one, is told as it is.
    """
    bare = name.rstrip(".").lower()
    return str(_suffixes().privatesuffix(bare) or bare)


def is_same_site(one: str, other: str) -> bool:
    """Whether two names lie in the same registered domain."""
    return registrable(one) == registrable(other)
