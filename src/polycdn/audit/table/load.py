"""The table read from its files and checked: a `Table` or every mistake at once."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from polycdn.audit.table.provider import ROLES, Company, Provider, Table, Use
from polycdn.errors import ConfigError, Fault

MARKS: Final = ("cname", "ns", "mx", "hosts", "cert_names", "caa", "console")
TEXTS: Final = ("headers", "behaviour", "issuers")
FIELDS: Final = frozenset(
    {
        *MARKS,
        *TEXTS,
        "registrar_ids",
        "id",
        "name",
        "company",
        "roles",
        "asns",
        "ranges",
        "ranges_are_shared",
        "uses",
        "note",
    }
    | {"source", "date", "read", "sources", "shares"}
)
UNIQUE: Final = ("cname", "ns", "mx", "hosts", "caa")
"""Marks that two rows may share only when one of them says so in `shares`."""
ASN_MAX: Final = 4_294_967_295
LABEL: Final = re.compile(r"[a-z0-9_*-]{1,63}")


@cache
def provider_table() -> Table:
    """The table that is shipped. Raises ConfigError when its files are broken."""
    root = resources.files("polycdn.audit.table")
    texts = {
        file.name: file.read_text("utf-8")
        for file in sorted(root.joinpath("providers").iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    }
    return table_of(texts, _range_files(root), root.joinpath("companies.toml").read_text("utf-8"))


def table_of(texts: Mapping[str, str], ranges: Mapping[str, str], companies: str = "") -> Table:
    """A table of the texts of TOML files by name, and of lists of prefixes by name.

    Raises ConfigError with every mistake: a row without source or date, a suffix that two rows claim without
    saying so, a prefix that is none, a dependency on nobody.
    """
    faults: list[Fault] = []
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for file, text in texts.items():
        for raw in _rows(file, text, "provider", faults):
            _check_row(f"{file}: {raw.get('id', '?')}", raw, faults)
            if raw.get("id") in rows:
                faults.append(_fault(f"{file}: {raw['id']}", "a second row of that id", "one", "join them"))
            rows[str(raw.get("id"))] = (file, raw)
    owners = _rows("companies", companies, "company", faults)
    for raw in owners:
        _check_origin(f"companies: {raw.get('id', '?')}", raw, faults)
    networks = {name: _networks(name, text, faults) for name, text in ranges.items()}
    _check_links(rows, networks, faults)
    _check_unique(rows, faults)
    if faults:
        raise ConfigError(tuple(faults))
    found = []
    for file, raw in rows.values():
        found.append(_provider(raw, networks, f"{file}: {raw['id']}", faults))
    if faults:
        raise ConfigError(tuple(faults))
    return Table(
        found,
        [
            Company(raw["id"], raw["name"], raw["source"], raw["date"], raw.get("parent", ""))
            for raw in owners
        ],
    )


def _rows(file: str, text: str, kind: str, faults: list[Fault]) -> list[dict[str, Any]]:
    try:
        rows = tomllib.loads(text).get(kind, [])
    except tomllib.TOMLDecodeError as error:
        faults.append(_fault(file, f"not TOML: {error}", "a TOML file", "mend the syntax there"))
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _check_row(place: str, raw: dict[str, Any], faults: list[Fault]) -> None:
    _check_origin(place, raw, faults)
    _check_reading(place, raw, faults)
    faults += [
        _fault(place, f"field {unknown}", ", ".join(sorted(FIELDS)), "mend the name")
        for unknown in sorted(set(raw) - FIELDS)
    ]
    if not isinstance(raw.get("company"), str) or not raw["company"]:
        faults.append(_fault(place, "no company", "an id of a company", "say who owns it"))
    roles = raw.get("roles")
    if not isinstance(roles, list) or not roles or not set(roles) <= ROLES:
        faults.append(_fault(place, f"roles {roles!r}", ", ".join(sorted(ROLES)), "say what it is"))
    for field in MARKS:
        for suffix in raw.get(field, []):
            if not isinstance(suffix, str) or not all(map(LABEL.fullmatch, suffix.split("."))):
                faults.append(_fault(place, f"{field} {suffix!r}", "a name in lower case", "mend it"))
            elif "." not in suffix and field != "caa":
                faults.append(_fault(place, f"{field} {suffix!r}", "two labels or more", "make it longer"))
    faults += [
        _fault(place, f"registrar id {number!r}", "a number of IANA's list", "mend it")
        for number in raw.get("registrar_ids", [])
        if type(number) is not int or number <= 0
    ]
    faults += [
        _fault(place, f"asn {asn!r}", f"1 to {ASN_MAX}", "mend it")
        for asn in raw.get("asns", [])
        if type(asn) is not int or not 0 < asn <= ASN_MAX
    ]


def _check_origin(place: str, raw: dict[str, Any], faults: list[Fault]) -> None:
    faults += [
        _fault(place, f"no {field}", "a text", f"add {field}")
        for field in ("id", "name")
        if not isinstance(raw.get(field), str) or not raw[field]
    ]
    if not str(raw.get("source", "")).startswith("https://"):
        faults.append(
            _fault(place, f"source {raw.get('source')!r}", "an https address", "say where it is from")
        )
    if not _is_day(raw.get("date")):
        faults.append(
            _fault(place, f"date {raw.get('date')!r}", 'a day, "2026-11-27"', "say when it was written")
        )


def _check_reading(place: str, raw: dict[str, Any], faults: list[Fault]) -> None:
    """`read` is a day; `sources`, what was read when it is not `source` alone, needs it."""
    if "read" in raw and not _is_day(raw["read"]):
        faults.append(
            _fault(place, f"read {raw['read']!r}", 'a day, "2026-11-27"', "say when its source was read")
        )
    further = raw.get("sources", [])
    if not isinstance(further, list) or not all(str(text).startswith("https://") for text in further):
        faults.append(
            _fault(place, f"sources {further!r}", "a list of https addresses", "say what else was read")
        )
    elif further and "read" not in raw:
        faults.append(_fault(place, "sources, but no read", "both or none", "say when they were read"))


def _is_day(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(date.fromisoformat(value))
    except ValueError:
        return False


def _check_links(
    rows: Mapping[str, tuple[str, dict[str, Any]]], networks: Mapping[str, object], faults: list[Fault]
) -> None:
    for name, (file, raw) in rows.items():
        place = f"{file}: {name}"
        for use in raw.get("uses", []):
            if use.get("provider") not in rows:
                faults.append(_fault(place, f"uses {use.get('provider')!r}", "an id of the table", "mend it"))
            if type(use.get("critical")) is not bool or not use.get("why"):
                faults.append(_fault(place, f"use {use!r}", "role, critical and why", "say them"))
        faults += [
            _fault(place, f"ranges {text}", "a file in ranges/", "add the file")
            for text in raw.get("ranges", [])
            if text.startswith("@") and text[1:] not in networks
        ]


def _check_unique(rows: Mapping[str, tuple[str, dict[str, Any]]], faults: list[Fault]) -> None:
    for field in UNIQUE:
        owner: dict[str, str] = {}
        for name, (file, raw) in rows.items():
            for suffix in raw.get(field, []):
                other = owner.setdefault(suffix, name)
                if other == name:
                    continue
                if name not in rows[other][1].get("shares", []) and other not in raw.get("shares", []):
                    faults.append(
                        _fault(f"{file}: {name}", f"{field} {suffix!r} of {other}", "a suffix of one row",
                               "take it out of one of them, or name the other in `shares`")
                    )  # fmt: skip


def _provider(
    raw: dict[str, Any],
    lists: Mapping[str, tuple[IPv4Network | IPv6Network, ...]],
    place: str,
    faults: list[Fault],
) -> Provider:
    networks: list[IPv4Network | IPv6Network] = []
    for text in raw.get("ranges", []):
        networks += lists[text[1:]] if text.startswith("@") else _networks(place, text, faults)
    uses = tuple(
        Use(use["provider"], use["role"], use["critical"], use["why"]) for use in raw.get("uses", [])
    )
    lists_of: dict[str, Any] = {
        field: tuple(raw.get(field, ()))
        for field in (*MARKS, *TEXTS, "roles", "asns", "registrar_ids", "sources")
    }
    texts_of: dict[str, Any] = {field: raw[field] for field in ("id", "name", "company", "source", "date")}
    return Provider(
        **lists_of,
        **texts_of,
        networks=tuple(networks),
        ranges_are_shared=bool(raw.get("ranges_are_shared", False)),
        uses=uses,
        note=raw.get("note", ""),
        read=raw.get("read", ""),
    )


def _networks(place: str, text: str, faults: list[Fault]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The prefixes of a list, one a line; it starts with a source and a date."""
    found = []
    if "\n" in text:
        head = [line for line in text.splitlines() if line.startswith("#")]
        if not any(line.startswith("# source: https://") for line in head):
            faults.append(
                _fault(f"ranges/{place}", "no source", "# source: https://...", "say where it is from")
            )
        if not any(re.match(r"# date: \d{4}-\d\d-\d\d$", line) for line in head):
            faults.append(_fault(f"ranges/{place}", "no date", "# date: 2026-11-27", "say when it was read"))
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        try:
            found.append(ip_network(line.strip()))
        except ValueError as error:
            faults.append(_fault(f"ranges/{place}", f"{line!r}: {error}", "a prefix", "mend it"))
    return tuple(found)


def _range_files(root: Traversable) -> dict[str, str]:
    return dict(_texts(root.joinpath("ranges")))


def _texts(folder: Traversable) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".txt"):
            yield file.name.removesuffix(".txt"), file.read_text("ascii")


def _fault(place: str, found: str, allowed: str, remedy: str) -> Fault:
    return Fault(f"provider table: {place}", found, allowed, remedy)
