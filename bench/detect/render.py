"""The result as a page of tables."""
# ruff: noqa: E501


def rendered(found: dict) -> str:
    """Markdown."""
    machine = found["machine"]
    parts = [
        "# Detection",
        f"`{found['command']}`, {found['date']}, {found['wall_s']} s on {machine['cpu']}, {machine['system']}, "
        f"Python {machine['python']}, {machine['cc']}. Healthy failure share 0.5 %; one false alarm in "
        f"{found['month_looks']:,} looks allowed (30 days at one a second).",
        _single(found),
        _false_alarms(found),
        _together(found),
        _liars(found),
        _origin(found),
        _flapping(found),
        _todays(found),
        "## Aims missed\n\n" + ("\n".join(f"- {fault}" for fault in found["missed"]) or "None."),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows])


def _single(found: dict) -> str:
    rows = [
        f"| {row['share']:.0%} | {row['bound']:.2f} | {row['mean']:.2f} | {row['of_bound']:.2f} | {row['p99']} "
        f"| {row['largest']} |"
        for row in found["single"]
    ]
    head = "| failing | Lorden's bound | mean | of bound | p99 | largest |"
    return "## One stream: looks to the alarm\n\n" + _table(head, rows)


def _false_alarms(found: dict) -> str:
    rows = [
        f"| {row['threshold']} | {row['exact_looks']:,.0f} | {row['states']:,} | {row['steps']:,} | {row['alarms']} "
        f"| {row['expected']} |"
        for row in found["false_alarms"]
    ]
    head = "| threshold | looks to a false alarm, exact chain | states | literal steps | alarms | expected |"
    return "## One stream: false alarms\n\n" + _table(head, rows)


def _together(found: dict) -> str:
    rows = [
        f"| {row['share']:.0%} | {row['mean']:.2f} | {row['spread']:.2f} | {row['p99']} | {row['largest']} |"
        for row in found["together"]
    ]
    head = "| failing | mean | spread of 3 seeds | p99 | largest |"
    return "## Three vantages, one left out: rounds to the alarm\n\n" + _table(head, rows)


def _liars(found: dict) -> str:
    rows = []
    for row in found["liars"]:
        after = f"{row['right_move_after']} rounds" if row["right_move_after"] >= 0 else ""
        start = "out" if row["starts_out"] else "in"
        rows.append(
            f"| {row['lie']} | {row['honest_see']:.1%} | {start} | {row['rounds']:,} | {row['wrong_moves']} | {after} |"
        )
    head = "| the liar | the others see failing | starts | rounds | wrong moves | left after |"
    return "## One liar of three vantages\n\n" + _table(head, rows)


def _origin(found: dict) -> str:
    rows = [
        f"| {row['case']} | {row['share']:.0%} | {row['faults']} | {row['moved']} |"
        for row in found["origin_faults"]
    ]
    head = "| an origin's fault | failing | faults of 120 rounds | that moved somebody |"
    noise = [f"| {row['share']:.0%} | {row['mean']} | {row['p99']} |" for row in found["beside_noise"]]
    more = "| one provider failing | mean rounds | p99 |"
    return (
        "## The origin's fault, three providers and three vantages\n\n"
        + _table(head, rows)
        + "\n\nOne provider's own fault, while the others and the origin fail 0.5 % of looks:\n\n"
        + _table(more, noise)
    )


def _flapping(found: dict) -> str:
    rows = [
        f"| {row['rule']} | {row['flapping_mean']} | {row['flapping_max']} | {row['whole_mean']} | {row['whole_max']} "
        f"| {row['first_s_max']} s |"
        for row in found["flapping"]
    ]
    head = "| rule | moves while flapping, mean | most | in the whole outage, mean | most | first move at the latest |"
    return "## 2025-11-18: moves away and back\n\n" + _table(head, rows)


def _todays(found: dict) -> str:
    shares = [row["share"] for row in found["single"]]
    rows = []
    for row in found["todays"]:
        cells = [
            f"{delay['mean']:,.0f} ({delay['p99']:,})"
            for delay in (row["delay"].get(share) or row["delay"][str(share)] for share in shares)
        ]
        rows.append(f"| {row['rule']} | {' | '.join(cells)} | {row['false_alarms_in_30_days']:.3g} |")
    head = "| rule | " + " | ".join(f"{share:.0%}" for share in shares) + " | false alarms in 30 days |"
    return "## Rules people use now: looks of one vantage to the alarm, mean (p99)\n\n" + _table(head, rows)
