"""Turns the two public data sets into the tables that `polycdn blast` reads.

    python bench/blast/convert.py imc2020 FOLDER OUT     the artifact of Kashaf, Sekar, Agarwal (IMC 2020)
    python bench/blast/convert.py webdep FOLDER OUT      Web-Dependencies (CMU, 2022 and 2023)

Writes OUT/sites.csv (site, role, provider, critical, party, rank) and, for imc2020, OUT/providers.csv; for
webdep one folder a month and country. Names of one company are joined by `JOINED`: a company falls once.
"""

import argparse
import csv
import gzip
import re
from collections import defaultdict
from pathlib import Path

JOINED = {
    "amazon": (
        "aws",
        "cloudfront",
        "amazonawsdns",
        "amazons3",
        "amazoncloudfront",
        "awsdns",
        "amazontrustservices",
        "amazoncom",
    ),
    "cloudflare": (
        "cloudflarecom",
        "cloudflarenet",
        "cloudflareinc",
    ),
    "akamai": (
        "akam",
        "akamaitech",
        "akamaitechnologies",
        "akamaiedge",
        "akadns",
        "akagtm",
        "akamaistream",
        "akamnet",
        "akamaitechnet",
        "akamaiedgenet",
        "akadnsnet",
        "akagtmorg",
        "akamaistreamnet",
    ),
    "fastly": (
        "fastlynet",
        "fastlylbnet",
    ),
    "letsencrypt": ("letsencryptorg",),
    "digicert": (
        "digicertinc",
        "digicertcom",
    ),
    "globalsign": (
        "globalsignnvsa",
        "globalsigncom",
    ),
    "sectigo": ("sectigolimited",),
    "comodo": ("comodocalimited",),
    "theusertrustnetwork": ("usertrustcom",),
    "dnsmadeeasy": ("dnsmadeeasycom",),
    "dyn": ("dynectnet",),
    "google": (
        "googledomains",
        "googletrustservices",
    ),
    "microsoft": (
        "microsoftcom",
        "microsoftcorporation",
    ),
    "entrust": (
        "entrustnet",
        "entrustinc",
    ),
    "godaddy": (
        "godaddycom",
        "godaddycominc",
    ),
    "nsone": ("nsonenet",),
    "ultradns": ("ultradnsnet",),
}
"""Company -> other spellings of it in the two data sets."""
SAME = {other: name for name, others in JOINED.items() for other in others}
THIRD = ("google3rd",)
"""Marked as private in imc2020, although the name says what it is: Google's name servers for customers."""
SITES = ("site", "role", "provider", "critical", "party", "rank")


def plain(name: str) -> str:
    """One spelling for one company."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    return SAME.get(key, key or name)


def rows_of(path: Path) -> list[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(text.decode().splitlines()))


def write(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def imc2020(folder: Path, out: Path, is_joined: bool = True) -> None:
    """`critical` as in the files; an edge that appears twice once names are joined is critical alone."""
    name = plain if is_joined else str
    found: dict[tuple[str, str, str], tuple] = {}
    for role, column in (("dns", "provider"), ("cdn", "provider"), ("ca", "ca")):
        for row in rows_of(folder / f"site_{role}.csv.gz"):
            key = (row["site"], role, name(row[column]))
            party = "third" if row.get("provider") in THIRD else row.get("party") or "third"
            found[key] = (*key, row["critical"], party, row["rank"])
    write(out / "sites.csv", SITES, list(found.values()))
    by_domain = {row["ns_domain"]: row["provider"] for row in rows_of(folder / "ns_groups.csv")}
    edges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows_of(folder / "provider_provider.csv"):
        target = by_domain.get(row["target"], row["target"]) if row["uses"] == "dns" else row["target"]
        if target and target.lower() != "none" and name(target) != name(row["provider"]):
            edges[name(row["provider"]), row["uses"]].add(name(target))
    write(
        out / "providers.csv",
        ("provider", "role", "depends_on", "critical"),
        [
            (who, role, on, int(len(all_on) == 1))
            for (who, role), all_on in sorted(edges.items())
            for on in sorted(all_on)
        ],
    )


def webdep(folder: Path, out: Path) -> None:
    """critical = the only target of the site for the service, and for `ocsp` no stapling."""
    groups: dict[str, dict[tuple[str, str], dict[str, tuple[str, str, str]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows_of(folder / "site_provider.csv.gz"):
        role = "ca" if row["service"] == "ocsp" else row["service"]
        name = plain(row["extra"] or row["target"]) if role == "dns" else plain(row["target"])
        found = groups[f"{row['month']}-{row['country']}"][row["site"], role]
        party = "private" if row["party"] == "Pvt" else "third"
        found[name] = (party, row["rank_bucket"], row["extra"] if role == "ca" else "")
    for place, sites in sorted(groups.items()):
        rows = [
            (site, role, name, int(len(found) == 1 and extra != "True"), party, rank)
            for (site, role), found in sites.items()
            for name, (party, rank, extra) in found.items()
        ]
        write(out / place / "sites.csv", SITES, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=("imc2020", "webdep"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    (imc2020 if asked.which == "imc2020" else webdep)(asked.folder, asked.out)


if __name__ == "__main__":
    main()
