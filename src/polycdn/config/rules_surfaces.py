"""Each surface has what its kind needs, and nothing that it does not know."""

from collections.abc import Iterator
from typing import Any, Final

from polycdn.config.checked import (
    Checked,
    check_unique,
    table_in,
    texts_in,
)
from polycdn.config.locate import Path as KeyPath

ENGINE_KEYS: Final = ("admin", "drain_s", "handover_drain_s")

NEEDS: Final = {
    "memory": ((), ()),
    "zonefile": (("path", "zone"), ("path", "zone")),
    "feed": (("listen",), ("listen",)),
    "edge": (
        (),
        (
            "http", "https", "workers", "certificates", "limits", "access", "memory_bytes", "disk",
            "access_log",
            *ENGINE_KEYS,
        ),
    ),
    "dns": (("dns", "zone"), ("dns", "asked_at", "workers", "zone", *ENGINE_KEYS)),
}  # fmt: skip
"""Kind of surface -> keys that it needs, keys that it takes besides name, kind and services."""


def check_surfaces(checked: Checked) -> None:
    """Keys of the kind, zones that hold the services, and no address twice."""
    for path, surface in checked.tables("surface"):
        kind = surface.get("kind")
        if not isinstance(kind, str) or kind not in NEEDS:
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
    check_unique(checked, "address to listen on", list(_listening(checked)))
    check_unique(checked, "folder of a disk tier", list(_paths(checked, "disk")))
    check_unique(checked, "access log", list(_paths(checked, "access_log")))


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


def _paths(checked: Checked, key: str) -> Iterator[tuple[KeyPath, str]]:
    for path, surface in checked.tables("surface"):
        found = table_in(surface.get(key)).get("path")
        if isinstance(found, str):
            yield (*path, key, "path"), found


def _check_zones(checked: Checked) -> None:
    for path, surface in checked.tables("surface"):
        apex = table_in(surface.get("zone")).get("apex")
        only = [name for _index, name in texts_in(surface.get("services"))]
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
    observations = table_in(checked.root.get("listen")).get("observations")
    if isinstance(observations, str):
        yield ("listen", "observations"), f"{observations} (TCP)"
    for path, surface in checked.tables("surface"):
        if isinstance(surface.get("listen"), str):
            yield (*path, "listen"), f"{surface['listen']} (TCP)"
        admin = table_in(surface.get("admin")).get("listen")
        if isinstance(admin, str) and not admin.endswith(":0"):
            yield (*path, "admin", "listen"), f"{admin} (TCP)"
        for key in ("http", "https", "dns"):
            for index, address in texts_in(surface.get(key)):
                if not address.endswith(":0"):
                    yield (*path, key, index), f"{address} (TCP)"
