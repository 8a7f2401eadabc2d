"""The rules that people use now."""

from polycdn.decide.threshold import (
    FIVE_ERRORS,
    GDNSD,
    POWERGSLB,
    THREE_IN_A_ROW,
    Average,
    Tally,
    Threshold,
    Window,
    five_minute_average,
)


def played(rule, looks: str, state=None) -> str:
    """Where the rule is after each look, "-" up and "D" down; looks are "." good and "x" failed."""
    state = state or (Tally() if isinstance(rule, Threshold) else Window())
    said = ""
    for look in looks:
        state = rule.after(state, look == ".")
        said += "D" if state.is_down else "-"
    return said


def test_three_in_a_row_down_and_three_up():
    assert played(THREE_IN_A_ROW, "xx.xxx..x...x") == "-----DDDDDD--"


def test_five_errors_in_a_row_and_back_with_one_good_answer():
    assert played(FIVE_ERRORS, "xxxxx.xxxxx") == "----D-----" + "D"


def test_powergslb_rises_after_five():
    assert played(POWERGSLB, "xxx....." + "xxx....x.....") == "--DDDDD-" + "--DDDDDDDDDD-"


def test_gdnsd_counts_failures_until_ten_good_looks_in_a_row_forgive():
    assert played(GDNSD, ("x" + "." * 9) * 10)[-10:] == "D" * 10
    assert "D" not in played(GDNSD, ("x" + "." * 10) * 30)
    assert played(GDNSD, "x" * 10 + "." * 20) == "-" * 9 + "D" * 20 + "-"


def test_an_average_is_judged_when_its_window_is_full():
    rule = Average(10, 9_000)
    assert played(rule, "xxxxxxxxx") == "-" * 9
    assert played(rule, "." * 10 + "xx" + "." * 10) == "-" * 11 + "D" * 9 + "--"


def test_five_minutes_hold_thirty_looks_each_ten_seconds():
    assert five_minute_average(10_000) == Average(30, 9_000)
