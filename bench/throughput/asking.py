"""One request over HTTP/1.1 on loopback, for checks; the load comes from other programs."""

import http.client
import ssl
from dataclasses import dataclass

TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    """What came back; field names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def ask(port: int, path: str, is_tls: bool = False, **fields: str) -> Answer:
    """The answer to one GET on a connection of its own; `If_None_Match` stands for the field If-None-Match.

    Raises OSError or http.client.HTTPException when there is none.
    """
    connection: http.client.HTTPConnection
    if is_tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=trusting())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request("GET", path, headers={"Host": "localhost", **sent})
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, {name.lower(): text for name, text in response.getheaders()}, body)
    finally:
        connection.close()


def trusting() -> ssl.SSLContext:
    """TLS that asks for nobody's name: the certificate is the benchmark's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
