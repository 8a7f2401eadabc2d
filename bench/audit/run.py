"""How fast an audit is: many lab domains with real DNS, TLS and HTTP servers, a round trip of 50 ms.

    python bench/audit/run.py [--domains N] [--delay-ms N]

Collects to a file, then reads the file and judges it. Writes bench/results/audit-collect.json and .md. Exit 1
when an aim is missed: 200 domains a minute, both together; memory flat while collecting, that is from the
time when a fifth is done until the end it grows by less than a tenth.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from machine import machine, who

from polycdn.audit.collect import Asked, Means, Progress, collect
from polycdn.audit.evidence import Fact
from polycdn.audit.evidence_file import KIND_OF, header_line, line_of, read_evidence
from polycdn.audit.finding import Severity
from polycdn.audit.findings import audit_of
from polycdn.audit.networks_import import import_networks
from polycdn.audit.places import Places
from polycdn.run.clock import Wall

RESULTS = Path(__file__).parent.parent / "results"
DOMAINS_A_MINUTE = 200
GROWTH = 1.10


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 2**20


class Watch:
    """Counts facts, writes them away, and notes memory as domains are done."""

    def __init__(self, path: Path, domains: int) -> None:
        self.kinds: Counter[str] = Counter()
        self.memory: list[tuple[int, float]] = []
        self._file = path.open("wb")
        self._file.write(header_line(0, "bench"))
        self._every = max(1, domains // 10)

    def take(self, fact: Fact) -> None:
        self.kinds[KIND_OF[type(fact)]] += 1
        self._file.write(line_of(fact))

    def progress(self, progress: Progress) -> None:
        noted = self.memory[-1][0] if self.memory else 0
        if progress.done > noted and progress.done % self._every == 0:
            self.memory.append((progress.done, round(resident_mib(), 1)))

    def close(self) -> None:
        self._file.close()


def measured(domains: int, delay_ms: int, directory: Path) -> dict:
    """One run against a lab in another process."""
    command = [sys.executable, str(Path(__file__).parent / "lab.py"), "--domains", str(domains)]
    command += ["--delay-ms", str(delay_ms), "--directory", str(directory)]
    lab = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert lab.stdin and lab.stdout
    try:
        where = json.loads(lab.stdout.readline())
        import_networks([directory / "networks.csv"], directory / "networks.bin")
        moved = {(seen, port): (real, at) for seen, port, real, at in where["places"]}
        means = Means(
            Wall(), places=Places(moved), roots=tuple(where["roots"]), ca_file=where["ca_file"],
            networks=directory / "networks.bin",
        )  # fmt: skip
        watch = Watch(directory / "evidence.jsonl", domains)
        asked = [Asked(f"shop{number}.test.") for number in range(domains)]
        began, cpu = time.perf_counter(), time.process_time()
        asyncio.run(collect(asked, means, watch.take, watch.progress))
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        watch.close()
    finally:
        lab.stdin.close()
        lab.wait(timeout=30)
    judged = judged_file(directory / "evidence.jsonl")
    at_fifth = next(mib for done, mib in watch.memory if done * 5 >= domains)
    return {
        "domains": domains,
        "round_trip_ms": delay_ms,
        "took_s": round(took_s, 1),
        "cpu_s": round(cpu_s, 1),
        "collected_a_minute": round(domains / took_s * 60),
        **judged,
        "domains_a_minute": round(domains / (took_s + judged["read_s"] + judged["judge_s"]) * 60),
        "facts": dict(sorted(watch.kinds.items())),
        "evidence_mib": round((directory / "evidence.jsonl").stat().st_size / 2**20, 1),
        "memory_mib": watch.memory,
        "memory_growth": round(watch.memory[-1][1] / at_fifth, 3),
    }


def judged_file(path: Path) -> dict:
    """How long reading and judging the evidence of all domains takes, in memory, and what comes of it."""
    began = time.perf_counter()
    evidence = read_evidence(path)
    read_s = time.perf_counter() - began
    audit = audit_of(evidence)
    return {
        "read_s": round(read_s, 1),
        "judge_s": round(time.perf_counter() - began - read_s, 1),
        "findings": len(audit.findings),
        "unknown": sum(each.severity is Severity.UNKNOWN for each in audit.findings),
        "judging_mib": round(resident_mib(), 1),
    }


def missed(found: dict) -> list[str]:
    """The aims that are missed, as sentences."""
    faults = []
    if found["domains_a_minute"] < DOMAINS_A_MINUTE:
        faults.append(f"{found['domains_a_minute']} domains a minute, aim {DOMAINS_A_MINUTE}")
    if found["memory_growth"] > GROWTH:
        faults.append(f"memory grew to {found['memory_growth']} of what it was at a fifth, aim {GROWTH}")
    return faults


def rendered(found: dict) -> str:
    """The result as a page."""
    memory = " | ".join(str(mib) for _done, mib in found["memory_mib"])
    done = " | ".join(str(number) for number, _mib in found["memory_mib"])
    facts = ", ".join(f"{count} {kind}" for kind, count in found["facts"].items())
    aims = "all aims met" if not found["missed"] else "; ".join(found["missed"])
    return f"""# Auditing a thousand domains

`{found["command"]}`, {found["date"]}, {who()}.

{found["domains"]} lab domains (own root, top-level domains, 10 DNS operators, 6 CDNs, 3 authorities, 20 third
parties; real sockets in another process), every answer {found["round_trip_ms"]} ms late, each flight of a
handshake too. Depth 3. Evidence goes to a file as it comes.

| domains a minute | collecting alone | collecting took | its processor time | reading the file | judging |
|---|---|---|---|---|---|
| {found["domains_a_minute"]} | {found["collected_a_minute"]} | {found["took_s"]} s | {found["cpu_s"]} s \
| {found["read_s"]} s | {found["judge_s"]} s |

Facts: {facts}; {found["evidence_mib"]} MiB.
Findings: {found["findings"]}, of which {found["unknown"]} UNKNOWN.

Resident memory (MiB) while collecting, as domains are done; the end is {found["memory_growth"]} of what it
was at a fifth:

| {done} |
|{"---|" * len(found["memory_mib"])}
| {memory} |

Judging holds the evidence of all domains in memory: {found["judging_mib"]} MiB at its end.

Aims: 200 domains a minute; memory flat while collecting (at most {GROWTH} of what it was at a fifth): {aims}.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=1_000)
    parser.add_argument("--delay-ms", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.domains, given.delay_ms, Path(folder))
    found["missed"] = missed(found)
    found["machine"] = machine()
    found["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    found["command"] = f"python bench/audit/run.py --domains {given.domains} --delay-ms {given.delay_ms}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "audit-collect.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "audit-collect.md").write_text(rendered(found))
    print(rendered(found))
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
