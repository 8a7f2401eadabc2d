"""A reader of the Prometheus text format 0.0.4 that refuses whatever the format does not allow."""

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
KINDS = ("counter", "gauge", "histogram")


@dataclass
class Family:
    """One metric: `samples` are by suffix and labels."""

    name: str
    help: str
    kind: str = ""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)


def read_page(text: str) -> dict[str, Family]:
    """Families by name. AssertionError at the first line that is wrong."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    family = Family("", "")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, told = line.split(" ", 3)
            assert re.fullmatch(NAME, name), line
            assert name not in families, f"a second time: {line}"
            assert told.endswith("."), f"help is a sentence: {line}"
            family = families[name] = Family(name, told)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family.name and kind in KINDS and not family.kind, line
            family.kind = kind
        else:
            _add_sample(family, line)
    for one in families.values():
        _check(one)
    return families


def _add_sample(family: Family, line: str) -> None:
    found = SAMPLE.fullmatch(line)
    assert found, line
    name, inside, value = found.groups()
    suffix = name.removeprefix(family.name)
    allowed = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
    assert name.startswith(family.name) and suffix in allowed, f"not of {family.name}: {line}"
    labels = tuple(LABEL.findall(inside or ""))
    assert "".join(match.group() for match in LABEL.finditer(inside or "")) == (inside or ""), line
    assert (suffix, labels) not in family.samples, f"a second time: {line}"
    family.samples[suffix, labels] = float(value)


def _check(family: Family) -> None:
    assert family.kind, f"{family.name} has no type"
    assert family.name.startswith("polycdn_"), family.name
    assert (family.kind == "counter") == family.name.endswith("_total"), family.name
    if family.kind == "counter":
        assert all(value >= 0 for value in family.samples.values()), family
    if family.kind == "histogram":
        buckets = [value for (suffix, _labels), value in family.samples.items() if suffix == "_bucket"]
        bounds = [float(labels[-1][1]) for (suffix, labels) in family.samples if suffix == "_bucket"]
        assert buckets == sorted(buckets) and bounds == sorted(bounds), family
        assert bounds[-1] == float("inf") and buckets[-1] == family.samples["_count", ()], family
        assert ("_sum", ()) in family.samples, family
