"""At which registrar a domain is, by RDAP (RFC 9083); whom to ask, by IANA's list (RFC 9224). Pure."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from polycdn.audit.evidence import RegistrationLook
from polycdn.audit.request import absolute

BOOTSTRAP: Final = "https://data.iana.org/rdap/dns.json"
BYTES_MAX: Final = 1_048_576
TEXT_CHARACTERS_MAX: Final = 200
STATUSES_MAX: Final = 32


def services_of(content: bytes) -> dict[str, str]:
    """Top-level domain -> the URL to ask, off a bootstrap file. {} when it is none."""
    found: dict[str, str] = {}
    services = _within(_json(content), "services")
    for service in services if isinstance(services, list) else []:
        if (
            not isinstance(service, list)
            or len(service) < 2
            or not all(isinstance(each, list) for each in service[:2])
        ):
            continue
        urls = [absolute("", url) for url in service[1] if isinstance(url, str)]
        secure = next((url for url in urls if url.startswith("https://")), "")
        for top in service[0]:
            if isinstance(top, str) and secure:
                found[top.lower().strip(".")] = secure
    return found


def registration_of(domain: str, content: bytes, at_ms: int) -> RegistrationLook | None:
    """What a registry says of a domain (canonical); None when it is no answer about it."""
    raw = _json(content)
    if _within(raw, "objectClassName") != "domain":
        return None
    registrar, number = "", ""
    for entity in _objects(_within(raw, "entities")):
        roles = _within(entity, "roles")
        if isinstance(roles, list) and "registrar" in roles:
            registrar, number = _name(entity), _iana_id(entity)
    statuses = _within(raw, "status")
    told = [_text(each) for each in statuses if isinstance(each, str)] if isinstance(statuses, list) else []
    return RegistrationLook(domain, registrar, number, _expires_ms(raw), tuple(told[:STATUSES_MAX]), at_ms)


def _name(entity: dict[str, Any]) -> str:
    """The full name in a jCard (RFC 7095)."""
    card = _within(entity, "vcardArray")
    rows = card[1] if isinstance(card, list) and len(card) > 1 and isinstance(card[1], list) else []
    for row in rows:
        if isinstance(row, list) and len(row) > 3 and row[0] == "fn" and isinstance(row[3], str):
            return _text(row[3])
    return ""


def _iana_id(entity: dict[str, Any]) -> str:
    for public in _objects(_within(entity, "publicIds")):
        if public.get("type") == "IANA Registrar ID":
            return _text(str(public.get("identifier", "")))
    return ""


def _expires_ms(raw: Any) -> int:
    for event in _objects(_within(raw, "events")):
        if event.get("eventAction") == "expiration" and isinstance(event.get("eventDate"), str):
            try:
                moment = datetime.fromisoformat(event["eventDate"])
                return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1000
            except (ValueError, OverflowError):
                return 0
    return 0


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _within(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, dict) else None


def _objects(raw: Any) -> list[dict[str, Any]]:
    return [each for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []


def _text(text: str) -> str:
    return text[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()
