"""An audit in the terminal: a table of who is who, the findings in order, the tree of what is below."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from polycdn.audit.findings import Audit
    from polycdn.audit.graph import Edge, Graph

STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "unknown": "magenta"}
TREE_DEPTH_MAX = 8
TREE_LINES_MAX = 400
UNKNOWN_SHOWN = 12


def print_audit(audit: "Audit", console: Console) -> None:
    """Everything, for people."""
    console.print(_who(audit))
    _print_findings(audit, console)
    for service in audit.services:
        console.print(tree_of(audit.graph, f"service:{service}"))


def _who(audit: "Audit") -> Table:
    from polycdn.audit.report import as_object

    table = Table(title="Who is who", title_justify="left")
    for head in ("host", "dns", "carried by", "CA", "third parties", "worst"):
        table.add_column(head, overflow="fold")
    for service in as_object(audit, "")["services"]:
        for at, host in enumerate(service["hosts"]):
            joint = " | " if any(each["redundant"] for each in host["carriers"]) else " > "
            worst = service["worst"] or "none"
            table.add_row(
                _text(host["name"]),
                _text(
                    "not seen" if host["dns"] is None else " | ".join(each["name"] for each in host["dns"])
                ),
                _text(joint.join(each["name"] for each in host["carriers"]) or "not seen"),
                _text(", ".join(dict.fromkeys(each["name"] for each in host["cas"])) or "not seen"),
                _text(str(len(host["third_parties"]))),
                _text(worst if at == 0 else "", style=STYLES.get(worst, "green")),
            )
    return table


def _print_findings(audit: "Audit", console: Console) -> None:
    known = [each for each in audit.findings if each.severity != "unknown"]
    unknown = [each for each in audit.findings if each.severity == "unknown"]
    table = Table(
        title=f"{len(known)} findings, most user-minutes first", title_justify="left", show_lines=True
    )
    table.add_column("severity")
    table.add_column("user-minutes\na year", justify="right")
    table.add_column("finding", overflow="fold")
    for each in known:
        text = _text(each.title, style="bold")
        for line in each.evidence[:3]:
            text.append(f"\n  {shown(line)}", style="not bold dim")
        text.append(f"\ndo: {shown(each.remedy)}", style="not bold")
        if each.incident:
            text.append(f"\nlike: {each.incident}", style="not bold dim")
        table.add_row(
            _text(str(each.severity), style=STYLES[str(each.severity)]), f"{each.user_minutes:,}", text
        )
    console.print(table)
    if unknown:
        console.print(
            f"{len(unknown)} things could not be seen (UNKNOWN, not fine):", style=STYLES["unknown"]
        )
        for each in unknown[:UNKNOWN_SHOWN]:
            console.print(f"  {shown(each.evidence[0])}", markup=False, highlight=False)
        if len(unknown) > UNKNOWN_SHOWN:
            console.print(f"  and {len(unknown) - UNKNOWN_SHOWN} more (--json has all)", markup=False)


def tree_of(graph: "Graph", root: str) -> Tree:
    """What is below a node; "!" marks what it does not work without, "…" what is shown further up."""
    tree = Tree(_text(f"{graph.label(root)}   (! = nothing works without it)"))
    seen = {root}
    queue: list[tuple[Tree, str, int]] = [(tree, root, 0)]
    lines = 0
    while queue:
        branch, node, depth = queue.pop(0)
        for edge in graph.out.get(node, ()):
            lines += 1
            if lines > TREE_LINES_MAX or edge.role == "company":
                continue
            twig = branch.add(_line(graph, edge, edge.target in seen))
            if edge.target not in seen and depth < TREE_DEPTH_MAX:
                seen.add(edge.target)
                queue.append((twig, edge.target, depth + 1))
    if lines > TREE_LINES_MAX:
        tree.add(_text(f"{lines - TREE_LINES_MAX} more (--json has all)"))
    return tree


def _line(graph: "Graph", edge: "Edge", is_seen: bool) -> Text:
    mark = "!" if edge.is_critical else " "
    text = f"{mark} {edge.role}: {graph.label(edge.target)}" + (
        " …" if is_seen and graph.out.get(edge.target) else ""
    )
    return _text(text, style="red" if edge.is_critical else "")


def _text(words: str, style: str = "") -> Text:
    return Text(shown(words), style=style)


def shown(words: str) -> str:
    """Words of strangers (a certificate's issuer, a header) without what would steer a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in words)
