"""What a result file says of the machine that made it."""

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """Cores, processor, system, Python, and how busy the machine was."""
    return {
        "cores": os.cpu_count(),
        "cpu": cpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def who() -> str:
    """The machine in a few words, for the line over a table."""
    return f"{os.cpu_count()} cores ({cpu_name()}), 1-minute load {os.getloadavg()[0]:.2f}"


def made_by(result: dict) -> str:
    """How the line over a table begins: the command, the day and the machine of a result file."""
    shown = result["machine"]
    return f"Made by `{result['command']}` on {result['date'][:10]}, {shown['cores']} cores ({shown['cpu']})"
