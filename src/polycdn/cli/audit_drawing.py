"""The dependency graph as SVG text: layers by role, critical edges marked, evidence on hover, no scripts."""
# ruff: noqa: E501

from collections import deque
from html import escape
from typing import Any, Final

LAYERS: Final = ("service", "hosts", "carriers", "networks and clouds", "dns", "ca", "companies")
LAYER_OF_ROLE: Final = {
    "host": 1, "third-party": 1, "mail": 1, "identity": 1, "status": 1, "cdn": 2, "network": 3, "cloud": 3,
    "dns": 4, "ca": 5, "company": 6, "console": 2,
}  # fmt: skip
COLUMN: Final = 190
BOX: Final = 150
ROW: Final = 34
TOP: Final = 40
NODES_MAX: Final = 300
LABEL_MAX: Final = 21
EVIDENCE_MAX: Final = 4


def drawing(graph: dict[str, Any]) -> str:
    """The graph of an audit's JSON object. Of a very large one the nodes next to the services are drawn."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    drawn = _nearest(graph, nodes)
    left_out = len(nodes) - len(drawn)
    places = _places(graph, drawn)
    height = TOP + max((row for _, row in places.values()), default=0) + ROW
    edges = [edge for edge in graph["edges"] if edge["source"] in places and edge["target"] in places]
    edges.sort(key=lambda edge: edge["critical"])
    parts = [
        f'<text class="dim" x="{at * COLUMN + 4}" y="16">{escape(name)}</text>'
        for at, name in enumerate(LAYERS)
    ]
    parts += [_edge(edge, places, nodes) for edge in edges]
    parts += [_box(nodes[node], *places[node]) for node in drawn]
    note = f'<p class="dim">{left_out} nodes further away are not drawn.</p>' if left_out else ""
    width = len(LAYERS) * COLUMN
    return f'<svg class="graph" viewBox="0 0 {width} {height}" role="img" aria-label="dependency graph">{"".join(parts)}</svg>{note}'


def _nearest(graph: dict[str, Any], nodes: dict[str, Any]) -> list[str]:
    """The nodes by their distance from the services, as many as are drawn."""
    out: dict[str, list[str]] = {}
    for edge in graph["edges"]:
        out.setdefault(edge["source"], []).append(edge["target"])
    seen = dict.fromkeys(node for node, what in nodes.items() if what["kind"] == "service")
    queue = deque(seen)
    while queue:
        for target in out.get(queue.popleft(), ()):
            if target not in seen and target in nodes:
                seen[target] = None
                queue.append(target)
    rest = [node for node in nodes if node not in seen]
    return [*seen, *rest][:NODES_MAX]


def _places(graph: dict[str, Any], drawn: list[str]) -> dict[str, tuple[int, int]]:
    """Left and top of each node's box, by the layer of the role in which it is met first."""
    layer: dict[str, int] = {}
    for edge in graph["edges"]:
        layer.setdefault(edge["target"], LAYER_OF_ROLE[edge["role"]])
    rows = [0] * len(LAYERS)
    places = {}
    for node in drawn:
        at = 0 if node.startswith("service:") else layer.get(node, 2)
        places[node] = (at * COLUMN, rows[at])
        rows[at] += ROW
    return places


def _edge(edge: dict[str, Any], places: dict[str, tuple[int, int]], nodes: dict[str, Any]) -> str:
    x1, y1 = places[edge["source"]]
    x2, y2 = places[edge["target"]]
    start, end = x1 + BOX, x2
    if x2 <= x1:
        start, end = (x1 + BOX, x2 + BOX) if x2 == x1 else (x1, x2 + BOX)
    y1, y2 = y1 + TOP, y2 + TOP
    bend = 40 if end >= start and x2 != x1 else -40 if x2 < x1 else 30
    path = f"M{start} {y1} C{start + bend} {y1} {end - bend if x2 != x1 else end + bend} {y2} {end} {y2}"
    mark = "critical" if edge["critical"] else "redundant"
    words = f"{nodes[edge['source']]['label']} needs {nodes[edge['target']]['label']} ({edge['role']}, {mark}): {edge['reason']}"
    lines = "\n".join([words, *edge["evidence"][:EVIDENCE_MAX]])
    return f'<path class="edge {mark}" d="{path}"><title>{escape(lines)}</title></path>'


def _box(node: dict[str, Any], x: int, row: int) -> str:
    label = node["label"]
    short = label if len(label) <= LABEL_MAX else label[: LABEL_MAX - 1] + "…"
    y = TOP + row - 11
    return (
        f'<g class="node {escape(node["kind"])}"><title>{escape(label)} ({escape(node["kind"])})</title>'
        f'<rect x="{x}" y="{y}" width="{BOX}" height="22" rx="4"/>'
        f'<text x="{x + 6}" y="{y + 15}">{escape(short)}</text></g>'
    )
