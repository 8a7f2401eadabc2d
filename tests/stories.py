"""Stories: text files of events and of what was decided on them, readable without knowing the code.

A line is a command; lines that start with `> ` are what it led to. `play` gives the whole text back with
those lines as they are today: a story holds when that equals the file. Commands:

    service a b:capacity_rps=700 c        providers, in the order of preference
    regions eu:demand_rps=1000 us         before `start`; one region `eu` unless named
    vantages v1 v2 v3                     three unless named
    policy rule=weighted dwell_ms=30000   fields of Policy; again later: configured anew
    start                                 Configured at second 0
    1..60 good                            one round a second, every look good
    61..70 a,b fail                       the same, with looks at a and b failing; `a in us`: only there
    61..70 a fail from v1                 only those of one vantage
    61..70 a,origin fail                  the origin, asked directly, fails too
    61..70 blind                          rounds without a look
    80 quiet 60                           one Quiet event of 60 rounds that ends at second 80
    80 force a down 4h [in eu]            80 release a, 80 freeze 10min, 80 thaw,
    80 measured eu 2000                   80 resumed 57, 80 explain
"""

import re
from dataclasses import fields, replace

from polycdn.decide.explain import explain
from polycdn.decide.step import step
from polycdn.decide.words import percent
from polycdn.model.event import (
    Configured,
    Event,
    Forced,
    Frozen,
    Measured,
    Observed,
    Quiet,
    Released,
    Resumed,
    Stance,
)
from polycdn.model.observation import Observation, Reason
from polycdn.model.plan import Plan, Severity
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.state import State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service, Vantage

START_MS = 1_763_466_480_000
"""2025-11-18 11:48:00 UTC; seconds of a story are counted from here."""

SPANS_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000}
BAR = 20


class Stage:
    """What a story has told so far: the service, the policy and the state."""

    def __init__(self) -> None:
        self.service = Service("www", "www.test", (), regions=(Region("eu"),), vantages=_vantages("v1 v2 v3"))
        self.policy = Policy()
        self.state = State()
        self.report = None

    def tell(self, line: str) -> list[str]:
        """The lines that a command leads to."""
        word, _, rest = line.partition(" ")
        if word == "service":
            self.service = replace(self.service, providers=tuple(_provider(w) for w in rest.split()))
        elif word == "regions":
            self.service = replace(self.service, regions=tuple(_made(Region, w) for w in rest.split()))
        elif word == "vantages":
            self.service = replace(self.service, vantages=_vantages(rest))
        elif word == "policy":
            self.policy = _with_fields(self.policy, rest.split())
        if word in ("service", "regions", "vantages", "policy"):
            return (
                self._decide(Configured(self.state.now_ms, self.service, self.policy)) if self.report else []
            )
        if word == "start":
            return self._decide(Configured(START_MS, self.service, self.policy), START_MS)
        return self._at(word, rest)

    def _at(self, when: str, what: str) -> list[str]:
        first, _, last = when.partition("..")
        lines = []
        for second in range(int(first), int(last or first) + 1):
            at_ms = START_MS + second * 1_000
            if what == "explain":
                lines += explain(self.state, self.report)
            else:
                lines += self._decide(self._event(what, at_ms), at_ms)
        return lines

    def _event(self, what: str, at_ms: int) -> Event:
        match what.split():
            case ["good"]:
                return Observed(at_ms, self._looks(at_ms, [], None, None))
            case ["blind"]:
                return Observed(at_ms, ())
            case [names, "fail"]:
                return Observed(at_ms, self._looks(at_ms, names.split(","), None, None))
            case [names, "in", region, "fail"]:
                return Observed(at_ms, self._looks(at_ms, names.split(","), None, region))
            case [names, "fail", "from", vantage]:
                return Observed(at_ms, self._looks(at_ms, names.split(","), vantage, None))
            case ["quiet", rounds]:
                return Quiet(at_ms, int(rounds))
            case ["force", name, stance, span]:
                return Forced(at_ms, name, Stance(stance), at_ms + _span_ms(span), by="ops")
            case ["force", name, stance, span, "in", region]:
                return Forced(at_ms, name, Stance(stance), at_ms + _span_ms(span), region, by="ops")
            case ["release", name]:
                return Released(at_ms, name, by="ops")
            case ["freeze", span]:
                return Frozen(at_ms, at_ms + _span_ms(span), by="ops")
            case ["thaw"]:
                return Frozen(at_ms, at_ms, by="ops")
            case ["measured", region, rps]:
                return Measured(at_ms, region, int(rps), 0)
            case ["resumed", generation]:
                return Resumed(at_ms, int(generation))
        raise ValueError(f"no such command: {what}")

    def _looks(self, at_ms: int, failing: list[str], only: str | None, where: str | None):
        names = [provider.name for provider in self.service.providers]
        looks = []
        for vantage in self.service.vantages:
            for name in (*names, "origin"):
                is_bad = name in failing and only in (None, vantage.name)
                is_bad = is_bad and (where is None or where in vantage.regions)
                reason = Reason.HTTP_5XX if is_bad else Reason.OK
                region = vantage.regions[0] if vantage.regions else "anywhere"
                looks.append(Observation(at_ms, name, region, vantage.name, reason, failures=int(is_bad)))
        return tuple(looks)

    def _decide(self, event: Event, now_ms: int | None = None) -> list[str]:
        now_ms = self.state.now_ms if now_ms is None else now_ms
        decision = step(self.state, event, now_ms)
        self.state, self.report = decision.state, decision.report
        second = (decision.state.now_ms - START_MS) // 1_000
        lines = _drawn(second, decision.plan) if decision.plan else []
        if not isinstance(event, Observed | Quiet):
            lines += [f"{second:>5} s  {note.text}" for note in decision.report.notes if _is_told(note)]
        else:
            warnings = [note for note in decision.report.notes if note.severity is not Severity.INFO]
            told = [note for note in warnings if decision.plan or note.code == "frozen_change"]
            lines += [f"{second:>5} s  {note.severity}: {note.text}" for note in told]
        return lines


def play(text: str) -> str:
    """The story as it goes today: its commands and comments, each followed by what it leads to."""
    stage, lines = Stage(), []
    for line in text.splitlines():
        if line.startswith("> "):
            continue
        lines.append(line)
        if line.strip() and not line.startswith("#"):
            lines += [f"> {led_to}" for led_to in stage.tell(line.strip())]
    return "\n".join(lines) + "\n"


def _drawn(second: int, plan: Plan) -> list[str]:
    """One line per region: a bar of 20 letters, each a twentieth of the traffic, then who is tried next."""
    lines = []
    for region in plan.regions:
        bar = "".join(name[0] * round(share_bp * BAR / 10_000) for name, share_bp in region.shares)
        shares = ", ".join(f"{name} {percent(share_bp)}" for name, share_bp in region.shares)
        then = " ".join(name for name in region.order if name not in dict(region.shares))
        standby = f"; then {then}" if then else ""
        place = f"{region.region} [{bar:<{BAR}.{BAR}}] ttl {region.ttl_s:>2} s  {shares}{standby}"
        lines.append(f"{second:>5} s  g{plan.generation:<3} {place}")
    return lines


def _is_told(note) -> bool:
    return note.code not in ("configured",)


def _provider(word: str) -> Provider:
    name, _, rest = word.partition(":")
    kind = ProviderKind.EDGE if name == "own" else ProviderKind.CDN
    return _with_fields(Provider(name, kind, Endpoint(f"{name}.test")), rest.split(",") if rest else [])


def _made(kind, word: str):
    name, _, rest = word.partition(":")
    return _with_fields(kind(name), rest.split(",") if rest else [])


def _vantages(words: str) -> tuple[Vantage, ...]:
    vantages = []
    for word in words.split():
        name, _, region = word.partition("@")
        vantages.append(Vantage(name, (region,) if region else ()))
    return tuple(vantages)


def _with_fields(value, words: list[str]):
    """The value with `field=text` set, the text read as the field's type wants."""
    known = {field.name for field in fields(value)}
    changes = {}
    for word in words:
        name, _, text = word.partition("=")
        assert name in known, f"{type(value).__name__} has no field {name}"
        readers = {"rule": Rule, "on_total_loss": OnTotalLoss, "regions": lambda t: tuple(t.split("+"))}
        readers["require_parity"] = lambda t: t == "yes"
        changes[name] = readers.get(name, int)(text)
    return replace(value, **changes)


def _span_ms(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()
    return int(number) * SPANS_MS[unit]
