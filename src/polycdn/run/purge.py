"""Tells a running edge to forget what it keeps, over its admin listener."""

import http.client
import json
from pathlib import Path
from typing import Any

from polycdn.errors import ConfigError, Fault, UnavailableError

PURGE_PATH = "/api/v1/purge"
ANSWER_BYTES_MAX = 65_536


def purge(admin: str, token: str, order: dict[str, Any], timeout_s: int = 10) -> dict[str, Any]:
    """The edge's answer to one order (`url`, `prefix` or `key`, and `soft`).

    Raises ConfigError if the edge refuses the order or the token, UnavailableError if it cannot be asked.
    """
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(admin, timeout=timeout_s)
    try:
        connection.request("POST", PURGE_PATH, json.dumps(order).encode(), headers)
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"purge: {admin} does not answer: {error}") from None
    finally:
        connection.close()
    told = _object(content)
    if answer.status == 200:
        return told
    why = str(told.get("detail") or answer.reason)
    if answer.status in (401, 403, 422):
        allowed = "an order and a token that the edge takes"
        raise ConfigError((Fault(f"purge at {admin}", f"{answer.status}: {why}", allowed, "see --help"),))
    raise UnavailableError(f"purge: {admin} answered {answer.status}: {why}")


def read_token(file: str) -> str:
    """The secret in a file. Raises ConfigError if there is none."""
    try:
        token = Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError((Fault(file, str(error), "a file with one token", "name another file"),)) from None
    if not token:
        raise ConfigError((Fault(file, "nothing", "a file with one token", "write the token into it"),))
    return token


def _object(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
