"""The false twin of `polycdn edge` and `polycdn dns`: the same files, words and exit codes, in plain Python.

It answers HTTP with the generation in force, so that a test sees whether it serves. Run as a process:
`python fake_engine.py --engine-config FILE`.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from polycdn.model.settings import PublishedPlan
from polycdn.model.wire import from_json


class FakeEngine:
    """One engine on one event loop; `deadly` generations end the process as soon as they are served."""

    def __init__(self, config: dict) -> None:
        self.name = config["engine"]
        self.config = config
        self.folder = Path(config["state_dir"]) / "engines" / self.name
        self.in_force: dict[str, tuple[PublishedPlan, str]] = {}
        self.counts: list[dict] = []
        self.served: list[dict] = []
        self.listeners: dict[str, list[str]] = {}
        self.is_drained = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        sources = ("good", "plan") if self.config.get("prefer_good") else ("plan", "good")
        for folder in sorted(self.folder.glob("*/")):
            for source in sources:
                with contextlib.suppress(OSError, ValueError):
                    self._serve(
                        from_json(PublishedPlan, json.loads((folder / f"{source}.json").read_bytes())), source
                    )
                    break
        socket = Path(self.config["socket"])
        if self.config.get("take_over"):
            await self._dismiss(Path(self.config["take_over"]))
        socket.parent.mkdir(parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        self._servers.append(await asyncio.start_unix_server(self._talk, socket))
        socket.chmod(0o600)
        for kind in ("http", "https", "dns"):
            for listen in self.config.get(kind, []):
                host, _, port = listen.rpartition(":")
                server = await asyncio.start_server(self._answer_http, host.strip("[]"), int(port))
                self._servers.append(server)
                bound = server.sockets[0].getsockname()
                self.listeners.setdefault(kind, []).append(f"{bound[0]}:{bound[1]}")

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self.is_drained.set()
        await asyncio.sleep(0)

    async def _dismiss(self, socket: Path) -> None:
        """Tells the engine there, if one answers, that its place is taken. No socket is really passed on."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b'{"op":"taken"}\n')
            await reader.readline()
            writer.close()

    def _serve(self, published: PublishedPlan, source: str) -> None:
        self.in_force[published.plan.service] = (published, source)
        if any(note.code == "deadly" for note in published.plan.notes):
            os._exit(101)

    async def _answer_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            generations = {name: plan.plan.generation for name, (plan, _) in self.in_force.items()}
            body = json.dumps(generations).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    answer = {"ok": True} | self.answer(json.loads(line))
                except ValueError as error:
                    answer = {"ok": False, "error": str(error), "retry": False}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def answer(self, word: dict) -> dict:
        return getattr(self, f"_{word['op']}")(word)

    def _hello(self, word: dict) -> dict:
        role = "dns" if self.config.get("dns") else "edge"
        return {
            "format": "polycdn/control/1",
            "engine": self.name,
            "role": role,
            "version": "fake",
            "pid": os.getpid(),
            "listeners": self.listeners,
        }

    def _apply(self, word: dict) -> dict:
        folder = self.folder / word["service"]
        published = from_json(PublishedPlan, json.loads((folder / "candidate.json").read_bytes()))
        assert (folder / f"settings-{published.settings_hash}.json").exists()
        generation = published.plan.generation
        held, _ = self.in_force.get(word["service"], (None, ""))
        if held is not None and generation < held.plan.generation:
            raise ValueError(
                f"generation {generation} is older than {held.plan.generation}, which is in force"
            )
        if held is not None and generation == held.plan.generation and held != published:
            raise ValueError(f"generation {generation} is in force with other content")
        if held == published:
            return {"generation": generation, "changed": False}
        (folder / ".plan.new").write_bytes((folder / "candidate.json").read_bytes())
        (folder / ".plan.new").rename(folder / "plan.json")
        self._serve(published, "candidate")
        return {"generation": generation, "changed": True}

    def _good(self, word: dict) -> dict:
        held, _ = self.in_force[word["service"]]
        if held.plan.generation != word["generation"]:
            raise ValueError(f"generation {held.plan.generation} is in force")
        folder = self.folder / word["service"]
        (folder / "good.json").write_bytes((folder / "plan.json").read_bytes())
        return {}

    def _remove(self, word: dict) -> dict:
        if word["service"] not in self.in_force:
            raise ValueError("not served here")
        del self.in_force[word["service"]]
        for name in ("plan.json", "good.json"):
            (self.folder / word["service"] / name).unlink(missing_ok=True)
        return {}

    def _status(self, word: dict) -> dict:
        services = [
            {
                "service": name,
                "generation": published.plan.generation,
                "settings_hash": published.settings_hash,
                "age_ms": 0,
                "source": source,
            }
            for name, (published, source) in sorted(self.in_force.items())
        ]
        return {"services": services, "errors": []}

    def _counts(self, word: dict) -> dict:
        since_ms = word["since_ms"]
        upto_ms = max([since_ms, *(row["at_ms"] for row in (*self.counts, *self.served))])
        return {
            "counts": [row for row in self.counts if row["at_ms"] > since_ms],
            "served": [row for row in self.served if row["at_ms"] > since_ms],
            "upto_ms": upto_ms,
        }

    def _taken(self, word: dict) -> dict:
        return self._drain(word)

    def _drain(self, word: dict) -> dict:
        asyncio.get_running_loop().call_later(0.05, self.is_drained.set)
        return {}


async def run(config: dict) -> int:
    engine = FakeEngine(config)
    await engine.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.is_drained.set)
    await engine.is_drained.wait()
    await engine.stop()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(json.loads(Path(sys.argv[sys.argv.index("--engine-config") + 1]).read_bytes()))))
