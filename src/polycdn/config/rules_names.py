"""Names are unique, and whatever refers to a name finds it."""

from difflib import get_close_matches
from ipaddress import ip_network
from typing import Final

from polycdn.config.checked import (
    Checked,
    Found,
    all_providers,
    check_unique,
    named,
    names_of,
    texts_in,
)
from polycdn.config.locate import Path as KeyPath
from polycdn.model.units import ANYWHERE, NAMESERVER, ORIGIN


def check_names(checked: Checked) -> None:
    """One of each name and of each hostname; `origin` and `nameserver` are taken."""
    for noun in ("service", "provider", "region", "vantage", "surface"):
        check_unique(checked, noun, named(checked.tables(noun)))
    hostnames: list[tuple[KeyPath, str]] = []
    for path, service in checked.tables("service"):
        inline = checked.tables("provider", (path, service))
        used = [
            name for name in named(checked.tables("provider")) if name[1] in {n for _p, n in named(inline)}
        ]
        check_unique(checked, "provider", used + named(inline))
        check_unique(
            checked, "provider", [((*path, "providers", i), n) for i, n in texts_in(service.get("providers"))]
        )
        if isinstance(service.get("hostname"), str):
            hostnames.append(((*path, "hostname"), service["hostname"].lower().removesuffix(".")))
        hostnames += [
            ((*path, "aliases", index), name.lower().removesuffix("."))
            for index, name in texts_in(service.get("aliases"))
        ]
    check_unique(checked, "hostname", hostnames)
    for path, provider in all_providers(checked):
        name = provider.get("name")
        if name in (ORIGIN, NAMESERVER):
            checked.complain(
                (*path, "name"),
                f'"{name}"',
                f"any other name: this one stands for looks that go to the {name} directly",
                f'rename it, say to "{name}-cloud"',
            )


def check_endpoints(checked: Checked) -> None:
    """Providers and origins say where to connect."""
    origins: list[Found] = [
        ((*path, "origin"), service["origin"])
        for path, service in checked.tables("service")
        if isinstance(service.get("origin"), dict)
    ]
    for found, keys in [(found, PROVIDER_PLACES) for found in all_providers(checked)] + [
        (found, ORIGIN_PLACES) for found in origins
    ]:
        path, table = found
        if not any(key in table for key in keys):
            checked.complain(
                path,
                "no place to connect to",
                "one of " + ", ".join(f"`{key}`" for key in keys),
                'add addresses = ["192.0.2.1"], or one of the others',
            )


PROVIDER_PLACES: Final = ("endpoint", "addresses", "cname")
ORIGIN_PLACES: Final = ("endpoint", "addresses")


def check_references(checked: Checked) -> None:
    """Providers, regions and services that are named exist."""
    regions, services = names_of(checked, "region") or [ANYWHERE], names_of(checked, "service")
    for service in checked.tables("service"):
        inline = [item.get("name") for _path, item in checked.tables("provider", service)]
        known = names_of(checked, "provider") + [name for name in inline if isinstance(name, str)]
        _refer(checked, service, "providers", "provider", known)
        _refer(checked, service, "regions", "region", regions)
    for found in all_providers(checked) + checked.tables("vantage"):
        _refer(checked, found, "regions", "region", regions)
    for found in checked.tables("surface"):
        _refer(checked, found, "services", "service", services)


def _refer(checked: Checked, found: Found, key: str, noun: str, known: list[str]) -> None:
    path, table = found
    for index, name in texts_in(table.get(key)):
        if name not in known:
            close = get_close_matches(name, known, n=1)
            checked.complain(
                (*path, key, index),
                f'{noun} "{name}", which there is not',
                ", ".join(dict.fromkeys(known)) or f"none: there is no {noun} yet",
                f'did you mean "{close[0]}"?' if close else f'add [[{noun}]] with name = "{name}"',
            )


def check_regions(checked: Checked) -> None:
    """A prefix belongs to one region."""
    first: dict[str, tuple[str, KeyPath]] = {}
    for path, region in checked.tables("region"):
        for index, text in texts_in(region.get("prefixes")):
            try:
                prefix = str(ip_network(text))
            except ValueError:
                continue
            place = (*path, "prefixes", index)
            name = str(region.get("name", "?"))
            if prefix in first:
                other, where = first[prefix]
                checked.complain(
                    place,
                    f'{prefix}, which region "{other}" has too',
                    f"each prefix in one region; the first is in {checked.place(where)}",
                    "remove it from one of them; a longer prefix inside it may go elsewhere",
                )
            first.setdefault(prefix, (name, place))
