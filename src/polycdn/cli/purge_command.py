"""`polycdn purge`: makes a running edge forget what it keeps."""

import json
from typing import Annotated, Any

import typer

from polycdn.errors import ConfigError, Fault


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("purge")(purge)


def purge(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]...", help="Objects, in all variants.")
    ] = None,
    prefix: Annotated[
        list[str] | None, typer.Option("--prefix", metavar="URL", help="Everything whose URL begins so.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="Everything with this surrogate key.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="With --key: only this service's objects.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Mark as stale instead of forgetting.")] = False,
    admin: Annotated[
        str, typer.Option(envvar="POLYCDN_ADMIN", metavar="HOST:PORT", help="The edge's admin listener.")
    ] = "127.0.0.1:9180",
    token_file: Annotated[
        str | None, typer.Option(envvar="POLYCDN_ADMIN_TOKEN_FILE", metavar="FILE", help="Holds its token.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
) -> int:
    """Forget objects by URL, by prefix or by surrogate key, at once.

    Example: polycdn purge --token-file admin.token http://www.example.com/news.html --key sports
    """
    from polycdn.run.purge import purge as tell
    from polycdn.run.purge import read_token

    orders = _orders(urls or [], prefix or [], key or [], service)
    if token_file is None:
        raise _fault("--token-file", "nothing", "a file with the edge's token")
    token = read_token(token_file)
    for order in orders:
        told = tell(admin, token, {**order, "soft": soft})
        if as_json:
            typer.echo(json.dumps({**order, "soft": soft, **told}))
        else:
            what, which = next(iter(order.items()))
            typer.echo(f"{'marked as stale' if soft else 'forgotten'}: {what} {which}")
    return 0


def _orders(
    urls: list[str], prefixes: list[str], keys: list[str], service: str | None
) -> list[dict[str, Any]]:
    if not urls and not prefixes and not keys:
        raise _fault("purge", "nothing to purge", "URLs, --prefix or --key")
    if service and (urls or prefixes or not keys):
        raise _fault("--service", service, "only beside --key: a URL names its service by its host")
    orders: list[dict[str, Any]] = [{"url": url} for url in urls]
    orders += [{"prefix": prefix} for prefix in prefixes]
    orders += [{"key": key} | ({"service": service} if service else {}) for key in keys]
    return orders


def _fault(place: str, found: str, allowed: str) -> ConfigError:
    return ConfigError((Fault(place, found, allowed, "see polycdn purge --help"),))
