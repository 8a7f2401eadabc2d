"""An edge with a gate, for tests: its metrics, clients with chosen addresses, raw HTTP/2, signed tokens."""

import base64
import contextlib
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from engine_process import engine
from providers import HOST, TIMEOUT_S, Edge, Reply, parse, read_to_end, settings

from polycdn.model.settings import CacheRules, ClientLimits, Gate, Limits, Settings, Upstream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
ENHANCE_YOUR_CALM = 11


@dataclass
class Gated(Edge):
    """An edge whose admin listener is asked for what it refused."""

    admin: int = 0

    def refused(self, reason: str) -> int:
        """How many were turned away for this reason."""
        row = f'polycdn_edge_refused_total{{reason="{reason}"}}'
        found = [line.rsplit(" ", 1)[1] for line in self.metrics().splitlines() if line.startswith(row)]
        assert found, f"no metric for {reason}"
        return int(found[0])

    def metrics(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=TIMEOUT_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def ask(self, content: bytes, source: str = "127.0.0.1") -> Reply:
        """The reply to a request, from a client with this address, on a connection of its own."""
        with self.connect_from(source) as connection:
            connection.sendall(content)
            return parse(read_to_end(connection))

    def connect_from(self, source: str) -> socket.socket:
        address = ("127.0.0.1", self.port)
        return socket.create_connection(address, timeout=TIMEOUT_S, source_address=(source, 0))


@contextlib.contextmanager
def gated(**config: Any) -> Iterator[Gated]:
    """An edge on free ports, without services, with one worker unless `config` says otherwise."""
    everything = {"http": ["127.0.0.1:0"], "https": ["127.0.0.1:0"], "admin": "127.0.0.1:0", **config}
    with engine("edge", **everything) as process:
        listeners = process.start()["listeners"]
        ports = {kind: int(listeners[kind][0].rsplit(":", 1)[1]) for kind in ("http", "https", "admin")}
        yield Gated(process, ports["http"], ports["https"], admin=ports["admin"])


PATIENT = Limits(
    connect_timeout_ms=5_000,
    first_byte_timeout_ms=10_000,
    idle_timeout_ms=10_000,
    client_head_timeout_ms=2_000,
)


def guarded(*upstreams: Upstream, is_cached: bool = False, gate: Gate | None = None, **own: int) -> Settings:
    """A service with a gate; `own` are fields of `ClientLimits`."""
    gate = gate or Gate(ClientLimits(**own))
    cache = CacheRules() if is_cached else None
    return settings(*upstreams, gate=gate, cache=cache, limits=PATIENT)


@dataclass
class Frames:
    """A client of HTTP/2 that sends whatever a test wants."""

    connection: socket.socket
    buffer: bytes = b""
    seen: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def begin(self, settings: bytes = b"") -> None:
        """The preface, with settings of its own besides that answers come without a dynamic table."""
        no_table = (1).to_bytes(2) + (0).to_bytes(4)
        self.connection.sendall(PREFACE + frame(SETTINGS, 0, 0, no_table + settings))

    def status(self) -> str:
        """The status of the next answer: its first field, from the static table or as digits (RFC 7541)."""
        block = self.until(HEADERS)[3].lstrip(b"\x20")
        if block[0] & 0x80:
            return {8: "200", 9: "204", 12: "400", 13: "404", 14: "500"}[block[0] & 0x7F]
        length = block[1] & 0x7F
        value = block[2 : 2 + length]
        return _digits(value) if block[1] & 0x80 else value.decode()

    def send(self, *frames: bytes) -> None:
        """Sends as far as the other side listens."""
        with contextlib.suppress(OSError):
            self.connection.sendall(b"".join(frames))

    def until(self, kind: int, limit_s: float = TIMEOUT_S) -> tuple[int, int, int, bytes]:
        """The next frame of a kind: kind, flags, stream and payload."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = self._next()
            self.seen.append(found)
            if found[0] == kind:
                return found
        raise AssertionError(f"no frame of kind {kind}; saw {[one[:3] for one in self.seen]}")

    def goaway(self) -> int:
        """The error code of the connection's end."""
        payload = self.until(GOAWAY)[3]
        return int(struct.unpack(">I", payload[4:8])[0])

    def kinds_to_the_end(self) -> list[int]:
        """Of all frames, once the other side has closed."""
        with contextlib.suppress(AssertionError, ConnectionResetError):
            while True:
                self.seen.append(self._next())
        return [one[0] for one in self.seen]

    def _next(self) -> tuple[int, int, int, bytes]:
        head = self._take(9)
        length = int.from_bytes(head[:3])
        return head[3], head[4], int.from_bytes(head[5:9]), self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            piece = self.connection.recv(65_536)
            assert piece, f"closed; saw {[one[:3] for one in self.seen]}"
            self.buffer += piece
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


def _digits(coded: bytes) -> str:
    """Three digits in Huffman's code: 5 bits for those up to 2, else 6."""
    bits = "".join(f"{byte:08b}" for byte in coded)
    text = ""
    while len(text) < 3:
        wide = bits[0] == "1" or bits[1] == "1"
        value, bits = int(bits[: 5 + wide], 2), bits[5 + wide :]
        text += str(value - 22 if wide else value)
    return text


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def fields(path: str = "/", more: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A GET as a block of header fields without compression (RFC 7541 §6.2.2)."""
    block = b"\x82\x86" + b"\x04" + _text(path) + b"\x01" + _text(HOST)
    return block + b"".join(b"\x00" + _text(name) + _text(value) for name, value in more)


def _text(value: str) -> bytes:
    length = len(value)
    if length < 127:
        return bytes([length]) + value.encode()
    encoded, rest = [127], length - 127
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes([*encoded, rest]) + value.encode()


def b64(content: bytes) -> str:
    """Base64 for URLs without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(frozen=True)
class Signer:
    """A key that signs tokens, with its public form in a JWK Set."""

    alg: str
    kid: str
    key: Any

    def jwk(self) -> dict[str, str]:
        own = {"kid": self.kid, "alg": self.alg}
        match self.alg:
            case "HS256":
                return {**own, "kty": "oct", "k": b64(self.key)}
            case "ES256":
                point = self.key.public_key().public_numbers()
                coordinates = {"x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))}
                return {**own, "kty": "EC", "crv": "P-256", **coordinates}
            case "RS256":
                numbers = self.key.public_key().public_numbers()
                return {
                    **own,
                    "kty": "RSA",
                    "n": b64(numbers.n.to_bytes(256)),
                    "e": b64(numbers.e.to_bytes(3)),
                }
        return {**own, "kty": "OKP", "crv": "Ed25519", "x": b64(self.key.public_key().public_bytes_raw())}

    def token(self, claims: dict[str, Any], **header: Any) -> str:
        parts = {"alg": self.alg, "kid": self.kid, **header}, claims
        text = ".".join(b64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{b64(self.sign(text.encode()))}"

    def sign(self, text: bytes) -> bytes:
        match self.alg:
            case "HS256":
                tag = hmac.HMAC(self.key, hashes.SHA256())
                tag.update(text)
                return tag.finalize()
            case "ES256":
                r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(32) + s.to_bytes(32)
            case "RS256":
                return bytes(self.key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
        return bytes(self.key.sign(text))


def new_signer(alg: str, kid: str) -> Signer:
    match alg:
        case "HS256":
            return Signer(alg, kid, kid.encode().ljust(32, b"-"))
        case "ES256":
            return Signer(alg, kid, ec.generate_private_key(ec.SECP256R1()))
        case "RS256":
            return Signer(alg, kid, rsa.generate_private_key(65_537, 2_048))
    return Signer(alg, kid, ed25519.Ed25519PrivateKey.generate())


def key_set(*signers: Signer) -> str:
    return json.dumps({"keys": [signer.jwk() for signer in signers]})
