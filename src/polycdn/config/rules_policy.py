"""Shares can be had, and the bounds of a policy fit each other."""

from dataclasses import fields
from typing import Any, Final

from polycdn.config.checked import (
    Checked,
    Found,
    all_providers,
    names_of,
    table_in,
    texts_in,
    whole_number,
)
from polycdn.config.locate import Path as KeyPath
from polycdn.config.quantity import BY_SUFFIX
from polycdn.errors import Fault
from polycdn.model.policy import Policy
from polycdn.model.units import ANYWHERE, FULL_BP

PERCENT: Final = BY_SUFFIX["bp"]


def providers_of(checked: Checked, service: Found) -> list[Found]:
    """The providers of a service in its order: those it names, then its own that it does not name."""
    everyone, inline = checked.tables("provider"), checked.tables("provider", service)
    if "providers" not in service[1]:
        return (everyone if not inline else []) + inline
    by_name = {name: found for found in everyone + inline if isinstance(name := found[1].get("name"), str)}
    named = [name for _index, name in texts_in(service[1]["providers"])]
    return [by_name[name] for name in named if name in by_name] + [
        found for found in inline if found[1].get("name") not in named
    ]


def check_providers(checked: Checked) -> None:
    """Each region of each service has providers whose floors and ceilings leave a solution."""
    regions = names_of(checked, "region") or [ANYWHERE]
    for service in checked.tables("service"):
        path, table = service
        providers = providers_of(checked, service)
        if not providers:
            place = (*path, "providers") if "providers" in table else path
            if not texts_in(table.get("providers")):
                checked.complain(place, "no providers", "at least one provider", "add [[provider]] tables")
            continue
        mine = [name for _index, name in texts_in(table.get("regions"))] or regions
        any(
            _wrong_shares(checked, service, name, [p for p in providers if _carries(p, name)])
            for name in mine
        )
    for path, provider in all_providers(checked):
        floor_bp, ceiling_bp = (
            whole_number(provider.get("floor_bp"), 0),
            whole_number(provider.get("ceiling_bp"), FULL_BP),
        )
        if floor_bp > ceiling_bp:
            checked.complain(
                (*path, "floor_bp"),
                f"floor {PERCENT.tell(floor_bp)}",
                f"at most the ceiling, {PERCENT.tell(ceiling_bp)}",
                "lower the floor or raise the ceiling",
            )


def _carries(provider: Found, region: str) -> bool:
    regions = [name for _index, name in texts_in(provider[1].get("regions"))]
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
    floors_bp = sum(whole_number(provider.get("floor_bp"), 0) for _path, provider in providers)
    if floors_bp > FULL_BP:
        last = next(found[0] for found in reversed(providers) if "floor_bp" in found[1])
        checked.complain(
            (*last, "floor_bp"),
            f"{where}: floors sum to {PERCENT.tell(floors_bp)}",
            "at most 100%",
            "lower the floors",
        )
        return True
    ceilings_bp = sum(whole_number(provider.get("ceiling_bp"), FULL_BP) for _path, provider in providers)
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


def check_policies(checked: Checked) -> None:
    """What is set for each service, with what is set for all, is consistent."""
    shared = table_in(checked.root.get("policy"))
    for service in checked.tables("service") or [((), {})]:
        own = table_in(service[1].get("policy"))
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
        if path and whole_number(low, 0) > whole_number(high, 2**63):
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
