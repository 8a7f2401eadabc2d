"""What all servers of a run share: the compiled programs, the objects, a certificate, the origin."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from throughput.checks import Origin, digest
from throughput.rows import FILES, ORIGIN_DELAY_MS
from throughput.serving import LOOK_EVERY_S, Site, StartError, free_ports, process

from polycdn.lab.certs import issue, make_authority

HERE = Path(__file__).parent
SEED = 20_251_118
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
TLS_PROBE = "#include <openssl/ssl.h>\nint main(void) { return !SSL_CTX_new(TLS_method()); }\n"


class NoCompiler(Exception):
    """There is no C compiler."""


@dataclass(frozen=True)
class Scene:
    """Folders of one run. `has_tls` is whether our C programs could be built with OpenSSL."""

    folder: Path
    has_tls: bool
    digests: dict[str, str]

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    def site(self, name: str, origin: int) -> Site:
        """A new folder and free ports for one server."""
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        folder.chmod(0o777)
        http, https, third, fourth = free_ports(4)
        paths = (self.tls / "certificate.pem", self.tls / "key.pem", self.tls / "both.pem")
        shared = (self.files, self.programs, *paths, self.has_tls)
        return Site(folder, http, https, third, fourth, origin, *shared)

    @contextmanager
    def origin(self, name: str, cpu: int) -> Iterator[Origin]:
        """An origin for one server alone, so that nobody else's requests are counted."""
        log = self.folder / f"origin-{name}-{time.monotonic_ns()}.log"
        command = (str(self.programs / "origin"), str(self.files), str(ORIGIN_DELAY_MS))
        with process(command, cpu, log, {}) as started:
            while not (said := log.read_text()).endswith("\n") and started.poll() is None:
                time.sleep(LOOK_EVERY_S)
            if not said.strip().isdigit():
                raise StartError(f"the origin did not start: {said}")
            yield Origin(int(said), self.digests, self.files / "100m")


def prepared(folder: Path) -> Scene:
    """Everything that has to be there before the first server starts. Raises NoCompiler."""
    compiler = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if compiler is None:
        raise NoCompiler("no C compiler (cc, gcc or clang) on the path; on Debian: apt-get install gcc")
    dice = random.Random(SEED)
    bodies = {name: dice.randbytes(size_bytes) for name, size_bytes in FILES.items()}
    digests = {name: digest(body) for name, body in bodies.items()}
    scene = Scene(folder, _has_openssl(compiler, folder), digests)
    for part in (scene.programs, scene.files, scene.tls):
        part.mkdir()
    folder.chmod(0o755)
    _compile(compiler, scene)
    for name, body in bodies.items():
        (scene.files / name).write_bytes(body)
    _certify(scene.tls)
    return scene


def _has_openssl(compiler: str, folder: Path) -> bool:
    command = (compiler, "-x", "c", "-", "-o", folder / "probe", "-lssl", "-lcrypto")
    return (
        subprocess.run(command, input=TLS_PROBE, text=True, capture_output=True, check=False).returncode == 0
    )


def _compile(compiler: str, scene: Scene) -> None:
    for name in ("origin", "limit", "pull"):
        tls = ("-DWITH_TLS", "-lssl", "-lcrypto") if scene.has_tls and name != "origin" else ()
        command = (compiler, *FLAGS, "-o", scene.programs / name, HERE / f"{name}.c", *tls)
        subprocess.run(command, check=True)


def _certify(folder: Path) -> None:
    """Certificate and key, apart and in one file, readable for servers that change their user."""
    made = issue(make_authority(folder, int(time.time() * 1000)), folder, "made", ("localhost", "127.0.0.1"))
    certificate, key = Path(made.cert_file).read_text(), Path(made.key_file).read_text()
    for name, text in (("certificate", certificate), ("key", key), ("both", key + certificate)):
        (folder / f"{name}.pem").write_text(text)
        os.chmod(folder / f"{name}.pem", 0o644)  # noqa: PTH101
