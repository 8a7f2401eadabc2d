"""Reports of vantages, signed: HMAC-SHA256 over who, when and the exact bytes. Pure.

The receiver refuses a report whose stamp lies outside a window around its own time, so that an old report
cannot be sent again later; inside the window it refuses a stamp that is not newer than the sender's last.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

VANTAGE_HEADER: Final = "x-polycdn-vantage"
STAMP_HEADER: Final = "x-polycdn-at-ms"
MAC_HEADER: Final = "x-polycdn-hmac"
WINDOW_MS: Final = 300_000
"""How far a report's stamp may lie from the receiver's time, on the clock that both share."""

DOMAIN: Final = b"polycdn/vantage-report/1"
KEY_BYTES_MIN: Final = 16


def sign(key: bytes, vantage: str, at_ms: int, body: bytes) -> str:
    """Hex HMAC-SHA256 of one report. The parts are length-prefixed: no two reports share a message."""
    message = b"".join(
        len(part).to_bytes(8, "big") + part for part in (DOMAIN, vantage.encode(), str(at_ms).encode(), body)
    )
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def signed_headers(key: bytes, vantage: str, at_ms: int, body: bytes) -> tuple[tuple[str, str], ...]:
    """The headers that go with a report."""
    return (
        (VANTAGE_HEADER, vantage),
        (STAMP_HEADER, str(at_ms)),
        (MAC_HEADER, sign(key, vantage, at_ms, body)),
    )


def refusal(
    key: bytes,
    headers: Mapping[str, str],
    body: bytes,
    now_ms: int,
    newest_ms: int,
    window_ms: int = WINDOW_MS,
) -> str:
    """Why a report is not to be believed; "" when it is.

    `headers` have lower-case names. `newest_ms` is the stamp of the last report accepted from this vantage.
    """
    vantage, stamp, mac = (headers.get(name, "") for name in (VANTAGE_HEADER, STAMP_HEADER, MAC_HEADER))
    if not stamp.isascii() or not stamp.isdecimal() or len(stamp) > 16:
        return f"{STAMP_HEADER} is not a number of milliseconds"
    if not hmac.compare_digest(sign(key, vantage, int(stamp), body).encode(), mac.lower().encode()):
        return f"{MAC_HEADER} does not match"
    if abs(now_ms - int(stamp)) > window_ms:
        return f"stamped {int(stamp) - now_ms} ms from now, limit {window_ms} ms"
    if int(stamp) <= newest_ms:
        return f"stamp {stamp} is not newer than {newest_ms}: sent before"
    return ""
