"""An audit as one HTML file: no scripts, no outside resources."""
# ruff: noqa: E501

from html import escape
from importlib.resources import files
from typing import Any, Final

from polycdn.cli.audit_drawing import drawing

STYLE: Final = """
body { max-width: 86rem }
svg.graph { overflow: visible }
svg .edge { fill: none; stroke: var(--dim); stroke-width: 1; stroke-dasharray: 3 3; opacity: .7 }
svg .edge.critical { stroke: var(--bad); stroke-width: 1.6; stroke-dasharray: none }
svg .edge:hover { stroke-width: 4; opacity: 1 }
svg .node rect { fill: var(--lane); stroke: var(--line) }
svg .node.service rect { stroke: var(--ink) }
svg .node.company rect { fill: none; stroke-dasharray: 4 2 }
.finding { border: 1px solid var(--line); border-left-width: 6px; border-radius: 6px; padding: .4rem 1rem; margin: .7rem 0 }
.finding h3 { font-size: 1rem; margin: .2rem 0 }
.finding p { margin: .3rem 0 }
.critical-f, .high-f { border-left-color: var(--bad) }
.medium-f { border-left-color: #e0a92b }
.low-f { border-left-color: #2f6fde }
.unknown-f { border-left-color: #8b5cc7 }
code { font-size: .85em; overflow-wrap: anywhere }
td, th { text-align: left !important; vertical-align: top }
"""
UNKNOWN_MAX: Final = 500


def page(audit: dict[str, Any]) -> str:
    """The whole page, of what `polycdn audit --json` prints."""
    style = files("polycdn.cli").joinpath("report.css").read_text("utf-8")
    names = ", ".join(service["name"] for service in audit["services"])
    known = [each for each in audit["findings"] if each["severity"] != "unknown"]
    unknown = [each for each in audit["findings"] if each["severity"] == "unknown"]
    cards = "".join(_card(str(count), severity) for severity, count in audit["counts"].items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Audit of {escape(names)}</title><style>{style}{STYLE}</style>
<h1>Audit of {escape(names)}</h1>
<p class="sub">Evidence of {escape(audit["evidence_started"])}, polycdn {escape(audit["tool_version"])}. User-minutes are
estimates for {audit["users"]:,} users at one moment: users x minutes a year of such an outage x share of requests hit.</p>
<div class="cards">{cards}</div>
<h2>Who depends on whom</h2>
<p class="dim">Red: nothing works without it. Dashed: another can take over, or it is not needed for every request. Point
at a line to see the evidence.</p>
{drawing(audit["graph"])}
<h2>Findings, most user-minutes first</h2>{"".join(map(_finding, known)) or "<p>None.</p>"}
<h2>Not seen</h2><p class="dim">Neither good nor bad: it could not be looked at.</p>{_unseen(unknown)}
<h2>Who is who</h2>{_who(audit)}</html>
"""


def _card(figure: str, text: str) -> str:
    return f'<div class="card"><b>{escape(figure)}</b>{escape(text)}</div>'


def _finding(finding: dict[str, Any]) -> str:
    seen = "".join(f"<li><code>{escape(line)}</code></li>" for line in finding["evidence"])
    like = f" Resembles <code>{escape(finding['resembles'])}</code>." if finding["resembles"] else ""
    return (
        f'<div class="finding {escape(finding["severity"])}-f"><h3>{escape(finding["title"])}</h3>'
        f'<p class="dim">{escape(finding["severity"])} · {escape(finding["service"])} · {finding["user_minutes_a_year"]:,} '
        f"user-minutes a year ({escape(finding['estimate'] or 'no estimate')}).{like}</p>"
        f"<p>{escape(finding['what'])}</p><p><b>Do:</b> {escape(finding['remedy'])}.</p><ul>{seen}</ul></div>"
    )


def _unseen(findings: list[dict[str, Any]]) -> str:
    if not findings:
        return "<p>Everything that was to be looked at was seen.</p>"
    rows = "".join(f"<li>{escape(each['evidence'][0])}</li>" for each in findings[:UNKNOWN_MAX])
    more = f"<p>and {len(findings) - UNKNOWN_MAX} more</p>" if len(findings) > UNKNOWN_MAX else ""
    return f"<ul>{rows}</ul>{more}"


def _who(audit: dict[str, Any]) -> str:
    head = "<tr><th>host</th><th>dns</th><th>carried by</th><th>CA</th><th>seen as</th></tr>"
    rows = ""
    for service in audit["services"]:
        for host in service["hosts"]:
            joint = " or " if any(each["redundant"] for each in host["carriers"]) else ", then "
            dns = "not seen" if host["dns"] is None else ", ".join(each["name"] for each in host["dns"])
            clues = "; ".join(
                f"{each['provider']} {each['confidence']:.0%} ({', '.join(sorted({clue['method'] for clue in each['clues']}))})"
                for each in host["detections"][:6]
            )
            cells = (
                host["name"], dns, joint.join(each["name"] for each in host["carriers"]) or "not seen",
                ", ".join(dict.fromkeys(each["name"] for each in host["cas"])) or "not seen", clues,
            )  # fmt: skip
            rows += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
