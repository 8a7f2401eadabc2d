"""The whole Rust half: two engines, each a call that ends when the process is told to stop.

Only `polycdn.run.engine` imports this module, and only inside an engine process. All else goes over files
and a Unix socket (docs/engine-protocol.md). Units are in the names; `config` is JSON in UTF-8:

    {"format": "polycdn/engine/1", "engine": "dns-1", "state_dir": "...", "socket": "...", "workers": 1,
     "http": ["127.0.0.1:8080"], "https": ["127.0.0.1:8443"], "dns": ["127.0.0.1:5353"], "prefer_good": false}

`engine` is one path component; `workers` 1 to 256; an edge needs `http` or `https`, a nameserver `dns`, and
neither takes the other's; a left-out list is empty; unknown fields are refused. Port 0 binds a free port.
More fields: `memory_bytes`, `disk`, `admin`, `admin_token_file`, `must_load` (docs/engine-protocol.md).
"""

def version() -> str:
    """Version of the crate, which is the version of the package."""

def run_edge(config: bytes) -> int:
    """Exit code, after SIGTERM or the word `drain`: 0. Blocks without the GIL.

    Raises ValueError if the config is wrong, OSError if the system refuses something (an address in use, a
    folder that cannot be written, another engine of the same name running), RuntimeError if a thread of ours
    panicked.
    """

def run_dns(config: bytes) -> int:
    """As `run_edge`, for the nameserver."""
