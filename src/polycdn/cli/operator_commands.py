"""What an operator asks a running decider, and tells it."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from polycdn.cli.state import ConfigOption, JsonOption, StateOption, layout_of, print_json
from polycdn.errors import ConfigError, Fault, UnavailableError

FOR_DEFAULT = "4h"
FOR_MS_MAX = 72 * 3_600_000

Provider = Annotated[str, typer.Argument(help="A provider of the config.")]
ServiceOption = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Only this service; default: all.")
]
RegionOption = Annotated[
    str | None, typer.Option("--region", metavar="NAME", help="Only this region; default: all.")
]
ForOption = Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 30m, 4h, at most 72h.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="For whoever reads the journal.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (status, explain, force, release, drain, freeze, thaw):
        app.command()(command)


def status(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> int:
    """Show where traffic goes, what is thought of the providers, and what runs.

    Exit code 1 when something is amiss (no decider, an engine that does not answer, a plan not taken).
    """
    from polycdn.run.running import overview

    shown = asyncio.run(overview(layout_of(config, state)))
    if as_json:
        print_json(shown)
    else:
        _print_status(shown)
    return 1 if shown["problems"] else 0


def explain(
    service: Annotated[str, typer.Argument(help="A service of the config.")],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say in sentences why traffic is where it is."""
    answer = _say(config, state, {"op": "explain", "service": service})
    if as_json:
        print_json(answer)
    else:
        typer.echo("\n".join(answer["sentences"]))
    return 0


def force(
    provider: Provider,
    stance: Annotated[str, typer.Argument(metavar="up|down", help="What it is to be taken for.")],
    service: ServiceOption = None,
    region: RegionOption = None,
    lasting: ForOption = FOR_DEFAULT,
    why: WhyOption = "",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take a provider for up or down, whatever the vantages say, for a while.

    Example: polycdn force cdn-a down --for 2h --why "contract ends tonight"
    """
    if stance not in ("up", "down"):
        raise _mistake("force", repr(stance), "up or down", "use `polycdn drain` to empty a provider slowly")
    word = _word("force", service, why) | {"provider": provider, "region": region, "stance": stance}
    return _order(config, state, word | {"for_ms": _ms(lasting)}, as_json, f"{provider} is forced {stance}")


def drain(
    provider: Provider,
    service: ServiceOption = None,
    region: RegionOption = None,
    lasting: ForOption = FOR_DEFAULT,
    why: WhyOption = "",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take a provider's traffic away slowly, as fast as the policy lets shares move."""
    word = _word("force", service, why) | {"provider": provider, "region": region, "stance": "drain"}
    return _order(config, state, word | {"for_ms": _ms(lasting)}, as_json, f"{provider} is drained")


def release(
    provider: Provider,
    service: ServiceOption = None,
    region: RegionOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take back what was forced or drained; the vantages' word counts again."""
    word = _word("release", service, "") | {"provider": provider, "region": region}
    return _order(config, state, word, as_json, f"{provider} is released")


def freeze(
    lasting: ForOption = FOR_DEFAULT,
    service: ServiceOption = None,
    why: WhyOption = "",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Let no plan change for a while, whatever is lost."""
    word = _word("freeze", service, why) | {"for_ms": _ms(lasting)}
    return _order(config, state, word, as_json, "plans are frozen")


def thaw(
    service: ServiceOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """End a freeze."""
    return _order(config, state, _word("thaw", service, ""), as_json, "plans may change again")


def _word(op: str, service: str | None, why: str) -> dict[str, Any]:
    by = os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"
    return {"op": op, "service": service, "by": by, "why": why}


def _ms(text: str) -> int:
    """Milliseconds of "30m", "4h" or "3d". Raises ConfigError beyond 72 h."""
    from polycdn.config.quantity import UNITS, QuantityError

    allowed, remedy = "a time such as 30m or 4h, at most 72h", "give a shorter time; it can be renewed"
    try:
        lasting_ms = next(unit for unit in UNITS if unit.suffix == "ms").parse(text)
    except QuantityError as error:
        raise _mistake("--for", str(error), allowed, remedy) from None
    if not 0 < lasting_ms <= FOR_MS_MAX:
        raise _mistake("--for", f'"{text}"', allowed, remedy)
    return lasting_ms


def _mistake(place: str, found: str, allowed: str, remedy: str) -> ConfigError:
    return ConfigError((Fault(place, found, allowed, remedy),))


def _say(config: str | None, state: Path | None, word: dict[str, Any]) -> dict[str, Any]:
    from polycdn.run.api import say

    layout = layout_of(config, state)
    if not layout.decider_socket.exists():
        raise UnavailableError(f"no decider runs on {layout.state}; start one with `polycdn up`")
    return say(layout.decider_socket, word)


def _order(config: str | None, state: Path | None, word: dict[str, Any], as_json: bool, done: str) -> int:
    answer = _say(config, state, word)
    if as_json:
        print_json(answer)
        return 0
    until = (
        f" until {utc(answer['until_ms'])}"
        if answer["until_ms"] and word["op"] in ("force", "freeze")
        else ""
    )
    told = ", ".join(f"{one['service']} (generation {one['generation']})" for one in answer["services"])
    typer.echo(f"{done}{until}: {told}")
    for warning in answer["warnings"]:
        typer.echo(f"warning: {warning}")
    return 0


def utc(at_ms: int) -> str:
    """A moment as people write it, UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print_status(shown: dict[str, Any]) -> None:
    for service in shown["services"]:
        typer.echo("\n".join(_service_lines(service)))
    for engine in shown["engines"]:
        held = [f"{one['service']} {one['generation']} ({one['source']})" for one in engine["services"]]
        typer.echo(f"engine {engine['engine']}: {engine['error'] or ', '.join(held) or 'serves nothing yet'}")
    for vantage in shown["vantages"]:
        heard = utc(vantage["heard_ms"]) if vantage["heard_ms"] else "never"
        typer.echo(f"vantage {vantage['vantage']}: heard {heard}")
    for problem in shown["problems"]:
        typer.echo(f"problem: {problem}")


def _service_lines(service: dict[str, Any]) -> list[str]:
    name, hostname, generation = service["service"], service["hostname"], service["generation"]
    frozen_ms = service["frozen_until_ms"]
    calm = f"frozen until {utc(frozen_ms)}" if frozen_ms else "calm" if service["is_calm"] else "not calm"
    lines = [f"{name}  {hostname}  generation {generation}, {calm}"]
    for region in service["regions"]:
        shares = ", ".join(f"{one['provider']} {one['share_bp'] / 100:g} %" for one in region["shares"])
        lines.append(f"  {region['region']}: {shares}; TTL {region['ttl_s']} s")
    for one in service["verdicts"]:
        since = f"{one['provider']:<16} {one['region']:<12} {one['status']:<9} since {utc(one['since_ms'])}"
        lines.append(f"    {since}  {one['why']}".rstrip())
    for one in service["forced"]:
        until = f"until {utc(one['until_ms'])} by {one['by']}"
        lines.append(f"    {one['provider']} forced {one['stance']} {until}")
    return lines
