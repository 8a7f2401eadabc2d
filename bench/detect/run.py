"""How fast the alarm is, how rarely it is false, and whether a liar or a flapping provider can move anybody.

    python bench/detect/run.py [--quick]

Writes bench/results/detect.json and .md (detect-quick.* with --quick). Exit 1 when an aim is missed.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from flap import ours, theirs
from origin import beside_noise, origin_faults
from others import EVERY_S, RULES, delay_of, looks_between_false_alarms
from render import rendered
from table import Program, compiled, lowered, program_of, rule_of

from polycdn.model.policy import Policy

RESULTS = Path(__file__).parent.parent / "results"
SHARES = (1.0, 0.5, 0.3, 0.2, 0.1)
LIES = ("fails", "good", "coin", "swings", "contrary")
LIE_CASES = ((0.005, 0), (1.0, 0), (0.3, 0), (0.3, 1), (0.05, 1))
"""(share of failures that the honest ones see, whether the provider is out at the start)."""


@dataclass(frozen=True)
class Size:
    runs: int
    steps: int
    lie_rounds: int
    seeds: int
    faults: int


FULL = Size(200_000, 100_000_000, 10_000_000, 20, 500)
QUICK = Size(20_000, 10_000_000, 1_000_000, 3, 40)


def bound(share: float, healthy: float, looks: int) -> float:
    """Lorden's bound: ln(mean looks between false alarms) / Kullback-Leibler divergence of the failing
    from the good."""
    divergence = share * math.log(share / healthy)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - healthy))
    return math.log(looks) / divergence


def single(program: Program, size: Size, policy: Policy) -> list[dict]:
    """Delay of one stream for each share, beside the bound."""
    healthy = policy.healthy_failure_bp / 10_000
    looks = policy.false_alarm_days * 86_400_000 // policy.probe_interval_ms
    rows = []
    for share in SHARES:
        mean, p99, largest = program.ask("delay", round(share * 1e6), size.runs, 1)
        limit = bound(share, healthy, looks)
        rows.append({
            "share": share, "bound": round(limit, 2), "mean": float(mean), "p99": int(p99),
            "largest": int(largest), "of_bound": round(float(mean) / limit, 3),
        })  # fmt: skip
    return rows


def together(program: Program, size: Size) -> list[dict]:
    """Delay of three vantages in rounds, for each share, over several seeds."""
    rows = []
    for share in SHARES:
        asked = [program.ask("delay", round(share * 1e6), size.runs, seed) for seed in (1, 2, 3)]
        means = [float(answer[0]) for answer in asked]
        rows.append({
            "share": share, "mean": round(sum(means) / len(means), 3),
            "spread": round(max(means) - min(means), 3),
            "p99": max(int(answer[1]) for answer in asked),
            "largest": max(int(answer[2]) for answer in asked),
        })  # fmt: skip
    return rows


def false_alarms(folder: Path, binary: Path, size: Size, policy: Policy) -> list[dict]:
    """Exact mean looks to a false alarm against literal steps, at the real threshold and at a lowered one."""
    real = rule_of(policy, 1)
    rows = []
    for name, rule in (("real", real), ("lowered", lowered(real, 2_000))):
        program = program_of(binary, rule, f"{folder.name}-{name}")
        exact, states = program.ask("chain")
        (alarms,) = program.ask("alarms", policy.healthy_failure_bp * 100, size.steps, 11)
        rows.append({
            "threshold": name, "exact_looks": float(exact), "states": int(states), "steps": size.steps,
            "alarms": int(alarms), "expected": round(size.steps / float(exact), 2),
        })  # fmt: skip
    return rows


def liars(program: Program, size: Size) -> list[dict]:
    """One of three vantages lies: moves that are wrong, and how long the right one takes."""
    rows = []
    for how in LIES:
        for share, out in LIE_CASES:
            answer = program.ask("lie", how, round(share * 1e6), size.lie_rounds, 5, out)
            outs, backs, first_out, _ = map(int, answer)
            rows.append({
                "lie": how, "honest_see": share, "starts_out": bool(out), "rounds": size.lie_rounds,
                "wrong_moves": outs if share < 0.01 else backs,
                "right_move_after": first_out if share >= 0.01 and not out else -1,
            })  # fmt: skip
    return rows


def flapping(size: Size) -> list[dict]:
    """Moves on the outage of 2025-11-18, ours and theirs, over some seeds."""
    rows = []
    for name in ("polycdn", *RULES):
        counted = [ours(seed) if name == "polycdn" else theirs(name, seed) for seed in range(size.seeds)]
        rows.append({
            "rule": name, "whole_max": max(moves.whole for moves in counted),
            "whole_mean": round(sum(moves.whole for moves in counted) / len(counted), 1),
            "flapping_max": max(moves.flapping for moves in counted),
            "flapping_mean": round(sum(moves.flapping for moves in counted) / len(counted), 1),
            "first_s_max": max(moves.first_s for moves in counted),
        })  # fmt: skip
    return rows


def todays(size: Size, policy: Policy) -> list[dict]:
    """Delay and false alarms of the rules people use now."""
    healthy = policy.healthy_failure_bp / 10_000
    rows = []
    for name, rule in RULES.items():
        delays = {share: asdict(delay_of(rule, share, 3, max(200, size.runs // 100))) for share in SHARES}
        between = looks_between_false_alarms(rule, healthy, 5, size.runs)
        a_month = 30 * 86_400 / EVERY_S / between
        rows.append({"rule": name, "delay": delays, "false_alarms_in_30_days": a_month})
    return rows


def missed(found: dict) -> list[str]:
    """The aims that are missed, as sentences."""
    faults = []
    for row in found["single"]:
        limit = 6 if row["share"] == 1.0 else 1.25 * row["bound"]
        if row["share"] >= 0.2 and row["mean"] > limit:
            faults.append(f"one stream, share {row['share']}: mean {row['mean']}, aim {limit:.2f}")
        if row["share"] == 0.3 and row["p99"] > 60:
            faults.append(f"one stream, share 0.3: p99 {row['p99']}, aim 60")
    real, low = found["false_alarms"]
    if real["exact_looks"] < found["month_looks"]:
        faults.append(f"a false alarm in {real['exact_looks']:.0f} looks, aim {found['month_looks']}")
    faults += [
        f"{row['threshold']} threshold: {row['alarms']} alarms, the chain says {row['expected']}"
        for row in (real, low)
        if abs(row["alarms"] - row["expected"]) > 4 * math.sqrt(row["expected"])
    ]
    aims = {1.0: (3, 3), 0.3: (14, 28)}
    for row in found["together"]:
        mean, p99 = aims.get(row["share"], (math.inf, math.inf))
        if row["mean"] > mean or row["p99"] > p99:
            faults.append(f"three vantages, share {row['share']}: mean {row['mean']}, p99 {row['p99']}")
    faults += [f"a liar moved somebody: {row}" for row in found["liars"] if row["wrong_moves"]]
    faults += [
        f"a liar hid an outage: {row}"
        for row in found["liars"]
        if row["honest_see"] >= 0.3 and not row["starts_out"] and row["right_move_after"] < 0
    ]
    faults += [
        f"an origin's fault moved somebody: {row}"
        for row in found["origin_faults"]
        if row["moved"] * 100 > row["faults"]
    ]
    if found["flapping"][0]["whole_max"] > 3:
        faults.append(f"2025-11-18: {found['flapping'][0]['whole_max']} moves, aim 3")
    return faults


def machine() -> dict:
    """What it ran on."""
    model = "unknown"
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        model = next(
            (li.split(":")[1].strip() for li in cpus.read_text().splitlines() if "model name" in li), model
        )
    compiler = subprocess.run(
        ["cc", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    return {"cpu": model, "system": platform.platform(), "python": platform.python_version(), "cc": compiler}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs and steps, for a look")
    is_quick = parser.parse_args().quick
    size, policy = QUICK if is_quick else FULL, Policy()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        binary = compiled(Path(folder))
        one, three = rule_of(policy, 1), rule_of(policy, 3)
        looking = program_of(binary, three, "three")
        found = {
            "command": "python bench/detect/run.py" + (" --quick" if is_quick else ""),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "month_looks": policy.false_alarm_days * 86_400_000 // policy.probe_interval_ms,
            "limits_mnat": {"one": asdict(one.limits), "three": asdict(three.limits)},
            "single": single(program_of(binary, one, "one"), size, policy),
            "false_alarms": false_alarms(Path(folder), binary, size, policy),
            "together": together(looking, size),
            "liars": liars(looking, size),
            "origin_faults": origin_faults(size.faults),
            "beside_noise": beside_noise(size.faults),
            "flapping": flapping(size),
            "todays": todays(size, policy),
        }
    found["missed"] = missed(found)
    found["wall_s"] = round(time.perf_counter() - began, 1)
    name = "detect-quick" if is_quick else "detect"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(rendered(found))
    print(rendered(found))
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
