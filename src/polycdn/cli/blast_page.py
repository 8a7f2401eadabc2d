"""The page of `polycdn blast --html`: one file with its plots as SVG, no scripts, nothing from outside."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

from polycdn.cli.plots import COLOURS
from polycdn.cli.report_page import table

WIDTH: Final = 920
TREE_HEIGHT: Final = 380
CELL: Final = 52


def page(shown: dict[str, Any]) -> str:
    """The whole page; `shown` is what `--json` prints."""
    style = files("polycdn.cli").joinpath("report.css").read_text()
    of = shown["sites"]
    rows = [
        (
            each["provider"], " ".join(each["roles"]), f"{each['concentration_direct']:,}",
            f"{each['concentration']:,}", f"{each['impact']:,}",
            f"{each['unreachable']:,}", f"{each['unreachable_share'] * 100:.2f} %",
        )
        for each in shown["providers"][:100]
    ]  # fmt: skip
    heads = ("provider", "roles", "uses it", "also through others", "critically", "gone with it", "share")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Blast radius</title><style>{style}</style>
<h1>Blast radius</h1>
<p class="sub">{of:,} sites, {shown["edges"]:,} edges, counted by {escape(shown["engine"])}.
{_percent(shown["any_critical_third_party"], of)} of the sites hang critically on a third party.</p>
{_down(shown)}
<h2>Who is gone with whom</h2>{treemap(shown["providers"][:40], of)}
<h2>Two at once: share of the sites that are gone</h2>{matrix(shown["pairs"], of)}
<h2>How unequal the roles are (Lorenz curves)</h2>{lorenz_curves(shown["roles"])}
<h2>Providers</h2>{table(heads, rows)}
</html>
"""


def _percent(part: int, of: int) -> str:
    return f"{part / of * 100:.1f} %"


def _down(shown: dict[str, Any]) -> str:
    if not shown["down"]:
        return ""
    fallen = shown["down"]
    return (
        f"<p>With {escape(', '.join(fallen['down']))} down, {fallen['unreachable']:,} sites are unreachable "
        f"({_percent(fallen['unreachable'], shown['sites'])}) and {fallen['affected']:,} affected.</p>"
    )


def treemap(providers: Sequence[dict[str, Any]], of: int) -> str:
    """Areas by the sites that are gone with a provider, sliced along the longer side."""
    left = [(each["provider"], each["unreachable"]) for each in providers if each["unreachable"]]
    parts = []
    x, y, width, height = 0.0, 0.0, float(WIDTH), float(TREE_HEIGHT)
    for index, (name, count) in enumerate(left):
        share = count / sum(size for _, size in left[index:])
        w, h = (width * share, height) if width > height else (width, height * share)
        label = escape(name) if w > 60 and h > 20 else ""
        parts.append(
            f'<g><rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" stroke="#fff" '
            f'fill="{COLOURS[index % len(COLOURS)]}"/><text x="{x + 6:.1f}" y="{y + 16:.1f}" fill="#fff" '
            f'font-size="12">{label}</text><title>{escape(name)}: {count:,} sites, '
            f"{_percent(count, of)}</title></g>"
        )
        if width > height:
            x, width = x + w, width - w
        else:
            y, height = y + h, height - h
    return f'<svg viewBox="0 0 {WIDTH} {TREE_HEIGHT}" role="img">{"".join(parts)}</svg>'


def matrix(pairs: dict[str, Any], of: int) -> str:
    """A cell a pair; the diagonal is one alone."""
    names, left = pairs["providers"], 170
    parts = []
    for i, name in enumerate(names):
        middle = i * CELL + CELL / 2
        parts.append(
            f'<text x="4" y="{middle + 4:.0f}" font-size="12" class="name">{escape(name[:24])}</text>'
        )
        for j, other in enumerate(names):
            share = pairs["unreachable"][i][j] / of
            told = name if i == j else f"{name} and {other}"
            parts.append(
                f'<g><rect x="{left + j * CELL}" y="{i * CELL}" width="{CELL - 2}" height="{CELL - 2}" '
                f'fill="#c2405a" fill-opacity="{min(1.0, 0.06 + 1.6 * share):.3f}"/>'
                f'<text class="name" text-anchor="middle" font-size="11" x="{left + (j + 0.5) * CELL:.0f}" '
                f'y="{middle + 4:.0f}">{share * 100:.1f}</text><title>{escape(told)}: '
                f"{pairs['unreachable'][i][j]:,} sites</title></g>"
            )
    return f'<svg viewBox="0 0 {WIDTH} {max(1, len(names)) * CELL}" role="img">{"".join(parts)}</svg>'


def lorenz_curves(roles: Sequence[dict[str, Any]]) -> str:
    """One curve a role; the diagonal would be equal shares for all."""
    side = 300
    parts = [f'<line x1="0" y1="{side}" x2="{side}" y2="0" stroke="#9aa3ad" stroke-dasharray="4"/>']
    parts.append(f'<rect width="{side}" height="{side}" fill="none" stroke="#9aa3ad"/>')
    for index, role in enumerate(roles):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{x * side:.1f},{side - y * side:.1f}" for x, y in role["lorenz"])
        told = escape(f"{role['role']}: HHI {role['hhi']:.4f}, {role['providers']:,} providers")
        parts.append(
            f'<g><polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<title>{told}</title></g><text x="{side + 20}" y="{20 + index * 20}" fill="{colour}" '
            f'font-size="13">{told}</text>'
        )
    return f'<svg viewBox="-4 -4 {WIDTH} {side + 8}" role="img">{"".join(parts)}</svg>'
