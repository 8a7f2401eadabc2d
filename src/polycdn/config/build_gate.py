"""Who gets in, from the tables of the config. Pure."""

from dataclasses import fields
from typing import Any, Final

from polycdn.config.loaded import OwnGate
from polycdn.config.schema import LimitsTable, ServiceTable
from polycdn.config.schema_gate import AccessTable, ClientLimitsTable, SigningTable
from polycdn.model.settings import Access, ClientLimits, Issuer, Limits, Signing

CLIENT_FIELDS: Final = tuple(field.name for field in fields(ClientLimits))


def limits_of(table: LimitsTable | None) -> tuple[Limits, ClientLimits]:
    """What [surface.limits] says: of a request's way, and of clients."""
    of_request, of_clients = split(said(table))
    return Limits(**of_request), ClientLimits(**of_clients)


def split(said: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Limits of a request's way, and those of clients."""
    clients = {name: value for name, value in said.items() if name in CLIENT_FIELDS}
    return {name: value for name, value in said.items() if name not in clients}, clients


def access_of(table: AccessTable | None) -> Access | None:
    """Who is let in; None if the table is not there."""
    if table is None:
        return None
    return Access(tuple(table.allow), tuple(table.deny), table.allow_file, table.deny_file)


def own_gate(table: ServiceTable) -> OwnGate | None:
    """What a service says itself; None if nothing."""
    gate = OwnGate(
        table.name, tuple(said(table.limits).items()), access_of(table.access), signing_of(table.signing)
    )
    return None if gate == OwnGate(table.name) else gate


def said(table: ClientLimitsTable | None) -> dict[str, Any]:
    """The keys that stand in the table."""
    return table.model_dump(exclude_none=True) if table else {}


def signing_of(table: SigningTable | None) -> Signing | None:
    """Which URIs need a token; None if the table is not there."""
    if table is None:
        return None
    return Signing(
        issuers=tuple(Issuer(issuer.name, issuer.key_file) for issuer in table.issuers),
        audience=tuple(table.audience),
        attribute=table.attribute,
        leeway_s=table.leeway_s,
        renew_kid=table.renew_kid,
    )
