"""How fast `polycdn blast` counts: 1, 10 and 100 million edges; networkx and pandas beside it on 1 million.

    python bench/blast/run.py [--millions 1 10 100] [--folder FOLDER] [--peers PYTHON] [--spark]

Writes bench/results/blast-speed.json and .md. Each measurement is a process of its own, made five times; the
median counts. The tables are our own (`make_table`), with names as strings in Parquet, in no order. `--peers`
is a Python that has networkx, pandas and pyarrow. `--spark` compares the answers of both engines on 10
million edges; it needs Java and pyspark.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine, made_by

RESULTS = Path(__file__).parent.parent / "results"
RUNS = 5
LIMIT_S = {10: (0.5, 5.0), 100: (5.0, 40.0)}
EDGES_PER_SITE = 2.8
LEANS = [("cdn", "dns", f"cdn-{i}", f"dns-{1 + i % 7}") for i in range(1, 60)]
LEANS += [("ca", "cdn", f"ca-{i}", f"cdn-{1 + i % 9}") for i in range(1, 50)]


def make_table(path: Path, edges: int) -> None:
    """Sites with a DNS operator of 20,000, or two; most with a CA, some with a CDN and a cloud."""
    import duckdb

    base = duckdb.connect(config={"memory_limit": "6GB", "preserve_insertion_order": False})
    base.execute(f"""
      copy (
        with u as (
          select 'www.site-' || i || '.example' as site, hash(i, 1) % 1000003 / 1000003.0 as a,
            hash(i, 2) % 1000003 / 1000003.0 as b, hash(i, 3) % 1000003 / 1000003.0 as c,
            hash(i, 4) % 1000 as d,
            hash(i, 5) % 1000 as e, hash(i, 6) % 1000003 / 1000003.0 as f, hash(i, 7) % 1000 as g
          from range({int(edges / EDGES_PER_SITE)}) t(i))
        select site, role, provider, critical from (
          select site, 'dns' as role, 'dns-' || floor(exp(a * ln(20000)))::int as provider,
            d >= 70 as critical from u
          union all select site, 'dns', 'second-' || floor(exp(b * ln(500)))::int, false from u where d < 70
          union all select site, 'ca', 'ca-' || floor(exp(c * ln(60)))::int, e < 760 from u where e < 950
          union all select site, 'cdn', 'cdn-' || floor(exp(f * ln(90)))::int, g >= 60 from u where g < 400
          union all select site, 'cdn', 'other-' || floor(exp(b * ln(90)))::int, false from u where g < 60
          union all select site, 'cloud', 'cloud-' || floor(exp(a * ln(300)))::int, true from u
            where (d + e) % 1000 < 300)
      ) to '{path}' (format parquet)""")


def question(folder: Path, millions: int):
    from polycdn.audit.blast.look import Question

    return Question((folder / f"sites-{millions}.parquet",), (folder / "providers.csv",))


def measure_all(folder: Path, millions: int) -> dict:
    """All metrics of all providers, pairs, smallest set: what `polycdn blast` does."""
    from polycdn.audit.blast.engine import open_engine
    from polycdn.audit.blast.look import look

    engine = open_engine("duckdb")
    start = time.monotonic()
    shown = look(engine, question(folder, millions))
    seconds = time.monotonic() - start
    engine.close()
    return {"seconds": seconds, "answer": {p["provider"]: p["unreachable"] for p in shown["providers"][:5]}}


def measure_one(folder: Path, millions: int, provider: str = "dns-3") -> dict:
    """All metrics of one provider, from the file: what `polycdn blast --only` does."""
    from polycdn.audit.blast.engine import open_engine
    from polycdn.audit.blast.one import look_only

    engine = open_engine("duckdb")
    start = time.monotonic()
    (found,) = look_only(engine, question(folder, millions), (provider,))["providers"]
    seconds = time.monotonic() - start
    engine.close()
    answer = [found["concentration"], found["impact"], found["unreachable"]]
    return {"seconds": seconds, "answer": {provider: answer}}


def measure_pandas(folder: Path, millions: int) -> dict:
    """Concentration and impact of all providers by merging closures; no redundancy."""
    import pandas as pd

    start = time.monotonic()
    sites = pd.read_parquet(folder / f"sites-{millions}.parquet")
    leans = pd.read_csv(folder / "providers.csv")
    reach = pd.DataFrame({"provider": sites["provider"].unique()})
    reach["on"], reach["all"] = reach["provider"], True
    while True:
        step = reach.merge(leans, left_on="on", right_on="provider", suffixes=("", "_lean"))
        step["all"] = step["all"] & step["critical"].astype(bool)
        step = step[["provider", "depends_on", "all"]].rename(columns={"depends_on": "on"})
        wider = pd.concat([reach, step]).groupby(["provider", "on"], as_index=False)["all"].max()
        if len(wider) == len(reach):
            break
        reach = wider
    pairs = sites.merge(reach, on="provider")
    concentration = pairs[["site", "on"]].drop_duplicates().groupby("on").size()
    needed = pairs[pairs["critical"] & pairs["all"]][["site", "on"]].drop_duplicates().groupby("on").size()
    seconds = time.monotonic() - start
    shown = {name: [int(concentration[name]), int(needed[name])] for name in ("dns-1", "dns-3")}
    return {"seconds": seconds, "answer": shown}


def measure_networkx(folder: Path, millions: int) -> dict:
    """Concentration of all providers of the graph by `ancestors`, of one provider at a time."""
    import networkx as nx
    import pandas as pd

    start = time.monotonic()
    sites = pd.read_parquet(folder / f"sites-{millions}.parquet")
    graph = nx.DiGraph()
    graph.add_edges_from(("s:" + s, p) for s, p in zip(sites["site"], sites["provider"], strict=True))
    leans = pd.read_csv(folder / "providers.csv")
    graph.add_edges_from(zip(leans["provider"], leans["depends_on"], strict=True))
    counts = {
        name: sum(found.startswith("s:") for found in nx.ancestors(graph, name))
        for name in sites["provider"].unique()
    }
    seconds = time.monotonic() - start
    return {"seconds": seconds, "answer": {k: counts[k] for k in ("dns-1", "dns-3")}}


MEASURES = {"all": measure_all, "one": measure_one, "pandas": measure_pandas, "networkx": measure_networkx}


def child(python: str, what: str, folder: Path, millions: int) -> dict:
    command = [python, __file__, "--child", what, "--folder", str(folder), "--millions", str(millions)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def repeated(python: str, what: str, folder: Path, millions: int) -> dict:
    """The run of median time, with the times of all: the speed of a shared machine comes and goes."""
    found = sorted(
        (child(python, what, folder, millions) for _ in range(RUNS)), key=lambda run: run["seconds"]
    )
    return found[RUNS // 2] | {"runs_s": [run["seconds"] for run in found]}


def run_child(what: str, folder: Path, millions: int) -> None:
    found = MEASURES[what](folder, millions)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps(found | {"what": what, "millions": millions, "peak_mib": peak}))


def compare_engines(folder: Path) -> bool:
    """Whether Spark and DuckDB answer alike on 10 million edges."""
    from polycdn.audit.blast.engine import open_engine
    from polycdn.audit.blast.look import look

    answers = []
    for name in ("duckdb", "spark"):
        engine = open_engine(name)
        start = time.monotonic()
        answers.append(look(engine, question(folder, 10)) | {"engine": ""})
        print(f"{name}: {time.monotonic() - start:.1f} s")
        engine.close()
    return answers[0] == answers[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/polycdn-blast"))
    parser.add_argument("--peers")
    parser.add_argument("--spark", action="store_true")
    parser.add_argument("--child", choices=MEASURES)
    asked = parser.parse_args()
    if asked.child:
        run_child(asked.child, asked.folder, asked.millions[0])
        return 0
    asked.folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{who},{role},{on},1" for _, role, who, on in LEANS]
    (asked.folder / "providers.csv").write_text(
        "\n".join(["provider,role,depends_on,critical", *lines]) + "\n"
    )
    for millions in asked.millions:
        path = asked.folder / f"sites-{millions}.parquet"
        if not path.exists():
            make_table(path, millions * 1_000_000)
    if asked.spark:
        is_same = compare_engines(asked.folder)
        print("same answers" if is_same else "DIFFERENT answers")
        return 0 if is_same else 1
    todo = [(sys.executable, what, m) for m in asked.millions for what in ("one", "all")]
    todo += [(asked.peers, what, 1) for what in ("pandas", "networkx") if asked.peers]
    rows = [repeated(python, what, asked.folder, m) for python, what, m in todo]
    result = {
        "what": "blast radius: seconds and peak memory, tables read from Parquet",
        "command": "python bench/blast/run.py --peers PYTHON",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "limits_s": {str(k): v for k, v in LIMIT_S.items()},
        "rows": rows,
    }
    (RESULTS / "blast-speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "blast-speed.md").write_text(table(result))
    print(table(result))
    return 0


def table(result: dict) -> str:
    shown = result["machine"]
    lines = [
        f"{made_by(result)}, Python {shown['python']}, 1-minute load {shown['load_1m']}.",
        "",
        "| million edges | what | seconds | limit | peak MiB |",
        "|---:|---|---:|---:|---:|",
    ]
    names = {"one": "all metrics of one provider", "all": "all providers, pairs, smallest set"}
    for row in result["rows"]:
        limits = LIMIT_S.get(row["millions"], ("-", "-"))
        limit = {"one": limits[0], "all": limits[1]}.get(row["what"], "-")
        what = names.get(row["what"], row["what"])
        runs = row["runs_s"]
        seconds = f"{row['seconds']:.2f} ({runs[0]:.2f}-{runs[-1]:.2f})"
        peak = f"{row['peak_mib']:,}"
        lines.append(f"| {row['millions']} | {what} | {seconds} | {limit} | {peak} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
