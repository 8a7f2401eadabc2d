"""How well the provider table recognises providers that others have listed: a confusion table.

    .venv/bin/python bench/audit/detection.py FINGERPRINTS [--networks FOLDER] [--out FOLDER]

FINGERPRINTS is a folder with `cdncheck_sources_data.json` (ranges and suffixes by provider, ProjectDiscovery's cdncheck)
and `findcdn_cname.csv` (CISA's findcdn). FOLDER has `asn-ipv4.csv.gz` and `asn-ipv6.csv.gz` (start, end, asn,
organisation). Nothing of them is in the table; they are only asked. Exit code 1 when an aim is missed
without a reason that `detection_names.py` tells.
"""
# ruff: noqa: E501

import argparse
import bisect
import csv
import gzip
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from audit.detection_names import EXPLAINED, OURS
from machine import machine

from polycdn.audit.detect import HostMarks, detect
from polycdn.audit.evidence import NetworkLook
from polycdn.audit.table import provider_table

RECOGNISED_BP_MIN = 9_500
WRONG_BP_MAX = 100
LARGE, EVERY = 10_000, 10
"""Of a list with more prefixes than LARGE every tenth is asked."""


class Networks:
    """The network of an address, by the table of start, end, asn, organisation."""

    def __init__(self, folder):
        self.rows = {4: [], 6: []}
        for version in (4, 6):
            with gzip.open(folder / f"asn-ipv{version}.csv.gz", "rt") as file:
                for start, end, asn, organisation in csv.reader(file):
                    if start != "start":
                        row = (int(ip_address(start)), int(ip_address(end)), int(asn), organisation)
                        self.rows[version].append(row)
            self.rows[version].sort()
        self.starts = {version: [row[0] for row in rows] for version, rows in self.rows.items()}

    def look(self, address):
        number = int(address)
        at = bisect.bisect_right(self.starts[address.version], number) - 1
        if at >= 0 and self.rows[address.version][at][1] >= number:
            return (NetworkLook(str(address), *self.rows[address.version][at][2:]),)
        return ()


def sampled(text):
    """The first, the middle and the last address of a prefix."""
    network = ip_network(text, strict=False)
    first, last = int(network.network_address), int(network.broadcast_address)
    kind = type(network.network_address)
    return [kind(number) for number in sorted({first, (first + last) // 2, last})]


def judged(marks, ours, table):
    """("recognised" | "wrong" | "missed", who was taken for it)."""
    sure = [each for each in detect(marks, table) if each.is_sure]
    if not sure:
        return "missed", ""
    named = {each.provider for each in sure}
    if named & set(ours):
        return "recognised", ""
    companies = {table.company_of(each) for each in ours}
    if any(table.company_of(each) in companies for each in named):
        return "recognised", ""
    return "wrong", sure[0].provider


def suffixes_of(folder):
    """(list, provider, suffix) of all lists; what is no suffix of a name is left out."""
    cdncheck = json.loads((folder / "cdncheck_sources_data.json").read_text())
    for name, suffixes in cdncheck["common"].items():
        for suffix in suffixes:
            yield "cdncheck common", name, suffix.strip(".").lower()
    with (folder / "findcdn_cname.csv").open() as file:
        for row in csv.DictReader(file):
            fragment = row["cname_fragment"].lower()
            if "." in fragment.strip(".") and not fragment.endswith("."):
                yield "findcdn", row["cdn"], fragment.strip(".")


def ranges_of(folder):
    """(list, provider, prefix) of all lists."""
    cdncheck = json.loads((folder / "cdncheck_sources_data.json").read_text())
    for kind in ("cdn", "waf", "cloud"):
        for name, prefixes in cdncheck[kind].items():
            every = EVERY if len(set(prefixes)) > LARGE else 1
            for prefix in sorted(set(prefixes))[::every]:
                yield f"cdncheck {kind}", name, prefix


def scored(folder, networks):
    """One row for each list, provider and kind of mark."""
    table = provider_table()
    tallies, taken, unnamed = {}, {}, Counter()
    for where, name, suffix in suffixes_of(folder):
        ours = OURS.get(name)
        if ours is None:
            unnamed[f"{where}: {name}"] += 1
            continue
        key = (where, name, "suffix")
        verdict, who = judged(HostMarks(names=(f"www-x7.{suffix}",)), ours, table)
        note(tallies, taken, key, verdict, who)
    for where, name, prefix in ranges_of(folder):
        ours = OURS.get(name)
        if ours is None:
            unnamed[f"{where}: {name}"] += 1
            continue
        verdicts = []
        for address in sampled(prefix):
            looks = networks.look(address) if networks else ()
            verdicts.append(judged(HostMarks(addresses=(str(address),), networks=looks), ours, table))
        worst = next((each for each in verdicts if each[0] == "wrong"), None)
        worst = worst or next((each for each in verdicts if each[0] == "missed"), verdicts[0])
        note(tallies, taken, (where, name, "range"), *worst)
    return [row(key, tallies[key], taken[key]) for key in tallies], unnamed


def note(tallies, taken, key, verdict, who):
    tallies.setdefault(key, Counter())[verdict] += 1
    taken.setdefault(key, Counter())
    if who:
        taken[key][who] += 1


def row(key, tally, taken):
    where, name, mark = key
    total = sum(tally.values())
    return {
        "list": where,
        "provider": name,
        "ours": list(OURS[name]),
        "mark": mark,
        "marks": total,
        "recognised_bp": tally["recognised"] * 10_000 // total,
        "wrong_bp": -(-tally["wrong"] * 10_000 // total),
        "missed_bp": tally["missed"] * 10_000 // total,
        "taken_for": dict(taken.most_common(4)),
        "explained": EXPLAINED.get((name, mark), ""),
    }


def together(rows):
    """One row a provider of ours for suffixes and ranges together, as the aim says it."""
    found = {}
    for each in rows:
        one = found.setdefault(
            each["provider"], {"provider": each["provider"], "marks": 0, "good": 0, "wrong": 0}
        )
        one["marks"] += each["marks"]
        one["good"] += each["recognised_bp"] * each["marks"]
        one["wrong"] += each["wrong_bp"] * each["marks"]
    for one in found.values():
        one["recognised_bp"] = one.pop("good") // one["marks"]
        one["wrong_bp"] = one.pop("wrong") // one["marks"]
    return list(found.values())


def rendered(found):
    """The result as a page."""
    head = "| list | provider | by | marks | recognised | wrong | missed | taken for | |\n|---|---|---|---:|---:|---:|---:|---|---|"
    lines = [
        f"| {each['list']} | {each['provider']} | {each['mark']} | {each['marks']:,} | {each['recognised_bp'] / 100:.1f} % "
        f"| {each['wrong_bp'] / 100:.1f} % | {each['missed_bp'] / 100:.1f} % "
        f"| {', '.join(f'{who} {times}' for who, times in each['taken_for'].items())} | {each['explained']} |"
        for each in found["rows"]
    ]
    missed = "\n".join(f"- {line}" for line in found["missed"]) or "None."
    unnamed = ", ".join(found["unnamed"]) or "none"
    who = found["machine"]
    return f"""# Detection of providers

`{found["command"]}`, {found["date"]}, on {who["cpu"]}, {who["cores"]} cores, Python {who["python"]}.
Table: {found["providers"]} providers, {found["suffixes"]:,} suffixes, {found["prefixes"]:,} prefixes. A prefix counts as recognised
when its first, middle and last address do; of lists with more than {LARGE:,} every tenth prefix is asked; a company's other product counts as the company. Asked beside the table's own
ranges: {found["networks"]}.

{head}
{chr(10).join(lines)}

Providers of the lists without a row of ours, not scored: {unnamed}.

## Aims missed (95 % recognised, at most 1 % wrong)

{missed}
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fingerprints", type=Path)
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "results")
    args = parser.parse_args()
    rows, unnamed = scored(args.fingerprints, Networks(args.networks) if args.networks else None)
    rows.sort(key=lambda each: (each["mark"], each["list"], each["provider"]))
    table = provider_table()
    missed = [
        f"{each['list']}, {each['provider']}, {each['mark']}: {each['recognised_bp'] / 100:.1f} % recognised, "
        f"{each['wrong_bp'] / 100:.1f} % wrong" + (f" ({each['explained']})" if each["explained"] else "")
        for each in rows
        if each["recognised_bp"] < RECOGNISED_BP_MIN or each["wrong_bp"] > WRONG_BP_MAX
    ]
    found = {
        "command": "bench/audit/detection.py FINGERPRINTS" + (" --networks FOLDER" if args.networks else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "providers": len(table.providers),
        "suffixes": sum(len(each.cname) + len(each.ns) for each in table.providers.values()),
        "prefixes": sum(len(each.networks) for each in table.providers.values()),
        "networks": "a table of networks (IP to ASN)" if args.networks else "nothing",
        "rows": rows,
        "together": together(rows),
        "unnamed": sorted(unnamed),
        "missed": missed,
    }
    args.out.mkdir(exist_ok=True)
    name = "audit-detection" if args.networks else "audit-detection-table-alone"
    (args.out / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (args.out / f"{name}.md").write_text(rendered(found))
    print(rendered(found))
    sys.exit(1 if [each for each in missed if not each.endswith(")")] else 0)


if __name__ == "__main__":
    main()
