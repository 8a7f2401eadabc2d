"""The integer table of the rule as the text that detect.c reads, and the compiled program."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from polycdn.decide.agree import kept_among
from polycdn.decide.calibrate import Limits, limits, rounds_per_alarm
from polycdn.decide.layout import layout_of
from polycdn.decide.likelihood import SCORE_MAX_MNAT, steps_of
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage

SOURCE = Path(__file__).parent / "detect.c"


@dataclass(frozen=True)
class Rule:
    """What detect.c needs to know: the policy, how many vantages look, and the thresholds."""

    policy: Policy
    vantages: int
    kept: int
    limits: Limits

    def text(self) -> str:
        """The table, one "name value..." a line; times in rounds of one probe interval."""
        policy, steps = self.policy, steps_of(self.policy.healthy_failure_bp)
        every_ms = policy.probe_interval_ms
        rows = {
            "vantages": (self.vantages,),
            "kept": (self.kept,),
            "ways": (len(steps.rise),),
            "healthy_ppm": (policy.healthy_failure_bp * 100,),
            "score_max": (SCORE_MAX_MNAT,),
            "rise": steps.rise,
            "fall": steps.fall,
            "limit": self.limits.down,
            "up_limit": (self.limits.up,),
            "up_max": (_up_max_mnat(policy, self.vantages),),
            "hold": (policy.hold_down_ms // every_ms,),
            "hold_max": (policy.hold_down_max_ms // every_ms,),
            "relapse_window": (policy.relapse_window_ms // every_ms,),
            "probation_start": (policy.probation_start_bp,),
            "probation_step": (policy.probation_step_ms // every_ms,),
        }
        return "".join(f"{name} {' '.join(map(str, values))}\n" for name, values in rows.items())


def service_of(vantages: int, names: tuple[str, ...] = ("cdn",)) -> Service:
    """A service in one region, looked at by so many vantages, without an origin."""
    providers = tuple(Provider(name, ProviderKind.CDN, Endpoint(name)) for name in names)
    return Service(
        "bench", "www.example", providers, vantages=tuple(Vantage(f"v{n}") for n in range(vantages))
    )


def rule_of(policy: Policy, vantages: int) -> Rule:
    """The rule as the decider uses it for one provider seen by all of these vantages."""
    kept = kept_among(vantages, vantages)
    rounds = rounds_per_alarm(policy.false_alarm_days, policy.probe_interval_ms)
    return Rule(policy, vantages, kept, limits(policy.healthy_failure_bp, kept, kept < vantages, rounds))


def lowered(rule: Rule, rounds: int) -> Rule:
    """The same rule with thresholds for a false alarm in so many rounds, where alarms are many enough to
    count."""
    healthy_bp = rule.policy.healthy_failure_bp
    return replace(rule, limits=limits(healthy_bp, rule.kept, rule.kept < rule.vantages, rounds))


def _up_max_mnat(policy: Policy, vantages: int) -> int:
    return layout_of(State(service_of(vantages), policy)).seats[0].up_max_mnat


def compiled(folder: Path) -> Path:
    """The path of the compiled detect.c. Raises FileNotFoundError when there is no C compiler."""
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc, gcc or clang) on the path")
    program = folder / "detect"
    subprocess.run(
        [compiler, "-O2", "-std=c11", "-Wall", "-Werror", "-o", program, SOURCE, "-lm"], check=True
    )
    return program


@dataclass(frozen=True)
class Program:
    """The compiled program with one rule's table."""

    path: Path
    table: Path

    def ask(self, *words: object, stdin: str = "") -> list[str]:
        """The words that it answers."""
        command = [str(self.path), str(self.table), *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout.split()


def program_of(program: Path, rule: Rule, name: str) -> Program:
    """The program with this rule's table, written beside it."""
    table = program.parent / f"{name}.table"
    table.write_text(rule.text())
    return Program(program, table)
