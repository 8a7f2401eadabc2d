"""A server that speaks HTTP/3 and nothing else; UDP on a free port of loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Answers(QuicConnectionProtocol):
    """Answers every request with 200 and `hello`."""

    def __init__(self, *words, **more) -> None:
        super().__init__(*words, **more)
        self._http = H3Connection(self._quic)

    def quic_event_received(self, event) -> None:
        for heard in self._http.handle_event(event):
            if isinstance(heard, HeadersReceived):
                stream = heard.stream_id
                head = [(b":status", b"200"), (b"content-type", b"text/plain")]
                self._http.send_headers(stream, head)
                self._http.send_data(stream, b"hello", end_stream=True)
        self.transmit()


@asynccontextmanager
async def speaking_h3(cert_file: str, key_file: str, port: int = 0) -> AsyncIterator[int]:
    """The port of one that serves until the block is over."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(cert_file, key_file)
    server = await serve("127.0.0.1", port, configuration=configuration, create_protocol=Answers)
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()
