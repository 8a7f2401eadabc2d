"""What must hold between tables: names, references, shares, regions, policy bounds, what each surface needs.

Works on the tree whether or not the schema accepts it, so that these faults are listed together with the
schema's: whatever has the wrong type is passed over here, because the schema complains of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from ipaddress import ip_network
from typing import Any, Final

from polycdn.config.dialect import Spelling
from polycdn.config.locate import Path as KeyPath
from polycdn.config.quantity import BY_SUFFIX
from polycdn.errors import Fault
from polycdn.model.policy import Policy
from polycdn.model.units import ANYWHERE, FULL_BP, ORIGIN

Found = tuple[KeyPath, dict[str, Any]]
"""A table and where it is."""

PERCENT: Final = BY_SUFFIX["bp"]


@dataclass(frozen=True)
class Checked:
    """The tree under check, and where its faults go."""

    root: dict[str, Any]
    spelling: Spelling

    def complain(self, path: KeyPath, found: str, allowed: str, remedy: str) -> None:
        """Adds a fault at the key with this path."""
        self.spelling.faults.append(Fault(self.spelling.place(path), found, allowed, remedy))

    def place(self, path: KeyPath) -> str:
        """Where a key is written."""
        return self.spelling.place(path)

    def tables(self, key: str, below: Found | None = None) -> list[Found]:
        """The tables of an array of tables."""
        path, table = below or ((), self.root)
        items = table.get(key)
        return [
            ((*path, key, index), item)
            for index, item in enumerate(items if isinstance(items, list) else [])
            if isinstance(item, dict)
        ]


def check_rules(checked: Checked) -> None:
    """Adds every fault that lies between tables."""
    for rule in RULES:
        rule(checked)


def _texts(value: Any) -> list[tuple[int, str]]:
    items = value if isinstance(value, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, str)]


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _names(checked: Checked, key: str) -> list[str]:
    return [item["name"] for _path, item in checked.tables(key) if isinstance(item.get("name"), str)]


def _unique(checked: Checked, noun: str, named: list[tuple[KeyPath, str]]) -> None:
    first: dict[str, KeyPath] = {}
    for path, name in named:
        if name in first:
            checked.complain(
                path,
                f'{noun} "{name}" a second time',
                f"each {noun} once; the first is in {checked.place(first[name])}",
                "rename or remove one of the two",
            )
        first.setdefault(name, path)


def _named(tables: list[Found]) -> list[tuple[KeyPath, str]]:
    return [((*path, "name"), table["name"]) for path, table in tables if isinstance(table.get("name"), str)]


def _check_names(checked: Checked) -> None:
    for noun in ("service", "provider", "region", "vantage", "surface"):
        _unique(checked, noun, _named(checked.tables(noun)))
    hostnames: list[tuple[KeyPath, str]] = []
    for path, service in checked.tables("service"):
        inline = checked.tables("provider", (path, service))
        used = [
            name for name in _named(checked.tables("provider")) if name[1] in {n for _p, n in _named(inline)}
        ]
        _unique(checked, "provider", used + _named(inline))
        _unique(
            checked, "provider", [((*path, "providers", i), n) for i, n in _texts(service.get("providers"))]
        )
        if isinstance(service.get("hostname"), str):
            hostnames.append(((*path, "hostname"), service["hostname"].lower().removesuffix(".")))
        hostnames += [
            ((*path, "aliases", index), name.lower().removesuffix("."))
            for index, name in _texts(service.get("aliases"))
        ]
    _unique(checked, "hostname", hostnames)
    for path, provider in _all_providers(checked):
        if provider.get("name") == ORIGIN:
            checked.complain(
                (*path, "name"),
                f'"{ORIGIN}"',
                "any other name: this one stands for looks that go to the origin directly",
                f'rename it, say to "{ORIGIN}-cloud"',
            )


def _check_endpoints(checked: Checked) -> None:
    origins: list[Found] = [
        ((*path, "origin"), service["origin"])
        for path, service in checked.tables("service")
        if isinstance(service.get("origin"), dict)
    ]
    for found, keys in [(found, PROVIDER_PLACES) for found in _all_providers(checked)] + [
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


def _all_providers(checked: Checked) -> list[Found]:
    inline = [found for service in checked.tables("service") for found in checked.tables("provider", service)]
    return checked.tables("provider") + inline


def _check_references(checked: Checked) -> None:
    regions, services = _names(checked, "region") or [ANYWHERE], _names(checked, "service")
    for service in checked.tables("service"):
        inline = [item.get("name") for _path, item in checked.tables("provider", service)]
        known = _names(checked, "provider") + [name for name in inline if isinstance(name, str)]
        _refer(checked, service, "providers", "provider", known)
        _refer(checked, service, "regions", "region", regions)
    for found in _all_providers(checked) + checked.tables("vantage"):
        _refer(checked, found, "regions", "region", regions)
    for found in checked.tables("surface"):
        _refer(checked, found, "services", "service", services)


def _refer(checked: Checked, found: Found, key: str, noun: str, known: list[str]) -> None:
    path, table = found
    for index, name in _texts(table.get(key)):
        if name not in known:
            close = get_close_matches(name, known, n=1)
            checked.complain(
                (*path, key, index),
                f'{noun} "{name}", which there is not',
                ", ".join(dict.fromkeys(known)) or f"none: there is no {noun} yet",
                f'did you mean "{close[0]}"?' if close else f'add [[{noun}]] with name = "{name}"',
            )


def providers_of(checked: Checked, service: Found) -> list[Found]:
    """The providers of a service in its order: those it names, then its own that it does not name."""
    everyone, inline = checked.tables("provider"), checked.tables("provider", service)
    if "providers" not in service[1]:
        return (everyone if not inline else []) + inline
    by_name = {table.get("name"): (path, table) for path, table in everyone + inline}
    named = [name for _index, name in _texts(service[1]["providers"])]
    return [by_name[name] for name in named if name in by_name] + [
        found for found in inline if found[1].get("name") not in named
    ]


def _check_providers(checked: Checked) -> None:
    regions = _names(checked, "region") or [ANYWHERE]
    for service in checked.tables("service"):
        path, table = service
        providers = providers_of(checked, service)
        if not providers:
            place = (*path, "providers") if "providers" in table else path
            if not _texts(table.get("providers")):
                checked.complain(place, "no providers", "at least one provider", "add [[provider]] tables")
            continue
        mine = [name for _index, name in _texts(table.get("regions"))] or regions
        any(
            _wrong_shares(checked, service, name, [p for p in providers if _carries(p, name)])
            for name in mine
        )
    for path, provider in _all_providers(checked):
        floor_bp, ceiling_bp = (
            _number(provider.get("floor_bp"), 0),
            _number(provider.get("ceiling_bp"), FULL_BP),
        )
        if floor_bp > ceiling_bp:
            checked.complain(
                (*path, "floor_bp"),
                f"floor {PERCENT.tell(floor_bp)}",
                f"at most the ceiling, {PERCENT.tell(ceiling_bp)}",
                "lower the floor or raise the ceiling",
            )


def _carries(provider: Found, region: str) -> bool:
    regions = [name for _index, name in _texts(provider[1].get("regions"))]
    return not regions or region in regions


def _wrong_shares(checked: Checked, service: Found, region: str, providers: list[Found]) -> bool:
    """Whether the shares of one region cannot be had; complains of the first thing that is in the way."""
    path, table = service
    where = f'service "{table.get("name", "?")}", region "{region}"'
    if not providers:
        checked.complain(
            path,
            f"{where}: no provider serves it",
            "at least one provider in each region",
            "take `regions` off a provider, or add one",
        )
        return True
    floors_bp = sum(_number(provider.get("floor_bp"), 0) for _path, provider in providers)
    if floors_bp > FULL_BP:
        last = next(found[0] for found in reversed(providers) if "floor_bp" in found[1])
        checked.complain(
            (*last, "floor_bp"),
            f"{where}: floors sum to {PERCENT.tell(floors_bp)}",
            "at most 100%",
            "lower the floors",
        )
        return True
    ceilings_bp = sum(_number(provider.get("ceiling_bp"), FULL_BP) for _path, provider in providers)
    if ceilings_bp < FULL_BP:
        last = next(found[0] for found in reversed(providers) if "ceiling_bp" in found[1])
        checked.complain(
            (*last, "ceiling_bp"),
            f"{where}: ceilings sum to {PERCENT.tell(ceilings_bp)}",
            "at least 100%: the shares of a region always do",
            "raise the ceilings, or add a provider",
        )
        return True
    return False


def _check_regions(checked: Checked) -> None:
    first: dict[str, tuple[str, KeyPath]] = {}
    for path, region in checked.tables("region"):
        for index, text in _texts(region.get("prefixes")):
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


def _check_policies(checked: Checked) -> None:
    shared = _table(checked.root.get("policy"))
    for service in checked.tables("service") or [((), {})]:
        own = _table(service[1].get("policy"))
        places = {key: ("policy", key) for key in shared} | {key: (*service[0], "policy", key) for key in own}
        _check_policy(checked, service, DEFAULTS | shared | own, places)


DEFAULTS: Final = {field.name: field.default for field in fields(Policy)}

ORDERED: Final = (
    ("ttl_doubt_s", "ttl_calm_s", "the TTL is shorter in doubt than while all is calm"),
    ("hold_down_ms", "hold_down_max_ms", "relapses lengthen the hold-down up to its maximum"),
    ("probe_interval_ms", "evidence_age_max_ms", "evidence must live until the next look"),
)
"""The first is at most the second, and why."""


def _check_policy(
    checked: Checked, service: Found, policy: dict[str, Any], places: dict[str, KeyPath]
) -> None:
    for small, large, why in ORDERED:
        unit = BY_SUFFIX[small.rpartition("_")[2]]
        low, high = policy[small], policy[large]
        path = places.get(small) or places.get(large)
        if path and _number(low, 0) > _number(high, 2**63):
            name, other = small.removesuffix(f"_{unit.suffix}"), large.removesuffix(f"_{unit.suffix}")
            fault = (
                path,
                f"`{name}` {unit.tell(low)}",
                f"at most `{other}`, {unit.tell(high)}: {why}",
                "change one",
            )
            if Fault(checked.place(path), *fault[1:]) not in checked.spelling.faults:
                checked.complain(*fault)
    kinds = [provider.get("kind") for _path, provider in providers_of(checked, service)]
    if policy.get("on_total_loss") == "own_edge" and kinds and "edge" not in kinds:
        checked.complain(
            places["on_total_loss"],
            f'"own_edge", but service "{service[1].get("name", "?")}" has no provider of kind "edge"',
            '"last_good" or "all"',
            "add your edge as a provider, or choose another",
        )


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


NEEDS: Final = {
    "memory": ((), ()),
    "zonefile": (("path", "zone"), ("path", "zone")),
    "feed": (("listen",), ("listen",)),
    "edge": ((), ("http", "https", "workers", "certificates", "limits")),
    "dns": (("dns", "zone"), ("dns", "workers", "zone")),
}
"""Kind of surface -> keys that it needs, keys that it takes besides name, kind and services."""


def _check_surfaces(checked: Checked) -> None:
    for path, surface in checked.tables("surface"):
        kind = surface.get("kind")
        if kind not in NEEDS:
            continue
        needed, taken = NEEDS[kind]
        for key in needed:
            if not surface.get(key):
                checked.complain(path, f"no `{key}`", f"a surface of kind {kind} has one", f"add `{key}`")
        for key in surface:
            if key in _SURFACE_KEYS and key not in taken:
                keys = ", ".join(("name", "kind", "services", *taken))
                checked.complain((*path, key), f"`{key}` of a {kind} surface", keys, "remove it")
        if kind == "edge":
            _check_edge(checked, path, surface)
    _check_zones(checked)
    _unique(checked, "address to listen on", list(_listening(checked)))


_SURFACE_KEYS: Final = {key for _needed, taken in NEEDS.values() for key in taken}


def _check_edge(checked: Checked, path: KeyPath, surface: dict[str, Any]) -> None:
    if not surface.get("http") and not surface.get("https"):
        checked.complain(
            path, "no address to listen on", "`http`, `https` or both", 'add http = ["0.0.0.0:80"]'
        )
    if surface.get("https") and not surface.get("certificates"):
        checked.complain(
            (*path, "https"),
            "HTTPS without a certificate",
            "`certificates` with cert_file and key_file",
            'add certificates = [{ cert_file = "...", key_file = "..." }]',
        )


def _check_zones(checked: Checked) -> None:
    for path, surface in checked.tables("surface"):
        apex = _table(surface.get("zone")).get("apex")
        only = [name for _index, name in _texts(surface.get("services"))]
        for _service_path, service in checked.tables("service") if isinstance(apex, str) else []:
            hostname = service.get("hostname")
            if not isinstance(hostname, str) or (only and service.get("name") not in only):
                continue
            name, zone = hostname.lower().removesuffix("."), str(apex).lower().removesuffix(".")
            if name != zone and not name.endswith(f".{zone}"):
                checked.complain(
                    (*path, "zone", "apex"),
                    f'zone "{zone}", but service "{service.get("name", "?")}" is {name}',
                    "a zone that holds every service of the surface",
                    "name the surface's `services`, or another zone",
                )


def _listening(checked: Checked) -> Iterator[tuple[KeyPath, str]]:
    observations = _table(checked.root.get("listen")).get("observations")
    if isinstance(observations, str):
        yield ("listen", "observations"), f"{observations} (TCP)"
    for path, surface in checked.tables("surface"):
        if isinstance(surface.get("listen"), str):
            yield (*path, "listen"), f"{surface['listen']} (TCP)"
        for key in ("http", "https", "dns"):
            for index, address in _texts(surface.get(key)):
                if not address.endswith(":0"):
                    yield (*path, key, index), f"{address} (TCP)"


RULES: Final[tuple[Callable[[Checked], None], ...]] = (
    _check_names,
    _check_references,
    _check_endpoints,
    _check_providers,
    _check_regions,
    _check_policies,
    _check_surfaces,
)
