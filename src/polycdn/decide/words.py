"""How times, shares and spans read in notes and explanations. Integer arithmetic, no calendar library."""

from typing import Final

DAY_MS: Final = 86_400_000


def utc(at_ms: int) -> str:
    """`2025-11-18 11:48:03 UTC` for milliseconds since 1970.

    Days to date as in Hinnant, "chrono-Compatible Low-Level Date Algorithms".

    The calendar repeats every 400 years = 146 097 days; years are counted from 1 March, so that a leap day
    is the last of its year.
    """
    days, rest_ms = divmod(at_ms, DAY_MS)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    hour, minute, second = rest_ms // 3_600_000, rest_ms // 60_000 % 60, rest_ms // 1_000 % 60
    return f"{year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d} UTC"


def percent(share_bp: int) -> str:
    """`42.0%`, or `42.05%` where the second place says something."""
    whole, rest = divmod(abs(share_bp), 100)
    places = f"{rest:02d}" if rest % 10 else f"{rest // 10}"
    return f"{'-' if share_bp < 0 else ''}{whole}.{places}%"


def span(span_ms: int) -> str:
    """`45 s`, `12 min 5 s`, `4 h`, `3 d 2 h`: the two largest units that are not zero."""
    seconds = max(0, span_ms) // 1_000
    parts = (
        (seconds // 86_400, "d"),
        (seconds // 3_600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    )
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"
