"""How values read: sizes, times, quality, and which words are good news."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from unicodedata import east_asian_width

GOOD = frozenset({"running", "healthy", "online", "good", "done", "connected", "ok", "up", "cleared"})
BUSY = frozenset(
    {
        "waiting", "downloading", "installing", "verifying", "starting", "restarting", "uncertain", "stale", "minor",
        "warning", "backoff", "superseded", "credentials_needed", "stopping", "held", "upgrading", "removing", "acknowledged",
    }
)  # fmt: skip
BAD = frozenset(
    {
        "failed", "rolled_back", "unhealthy", "offline", "bad", "critical", "major", "dead", "crash_loop", "crashed",
        "disconnected", "down", "refused", "error", "raised",
    }
)  # fmt: skip

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]+")


def tone_of(text: str) -> str:
    """`good`, `busy`, `bad`, or "" for a word that is neither."""
    if text in GOOD:
        return "good"
    if text in BUSY:
        return "busy"
    return "bad" if text in BAD else ""


def clean(text: str) -> str:
    """`text` with control characters shown instead of obeyed: what APPs name and log must not drive a terminal."""
    if text.isprintable():
        return text
    return "".join(ch if ch == "\t" or ch.isprintable() else f"\\x{ord(ch):02x}" for ch in text)


def width(text: str) -> int:
    """Cells on a terminal: Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(ch) in "WF" else 1 for ch in text)


def plain(value: Any) -> str:
    """Any JSON value in one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(item)}" for key, item in value.items()) or "-"
    return str(value)


def size(value: Any) -> str:
    """Bytes as people say them: 64 MB is 64,000,000."""
    if not isinstance(value, int | float):
        return plain(value)
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def span(seconds: Any) -> str:
    """A length of time: 42 s, 3.5 min, 7.2 h, 12 d."""
    if not isinstance(seconds, int | float):
        return plain(seconds)
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def moment(epoch_ms: Any) -> str:
    """Local date and time of epoch ms; 0 and None mean never."""
    if not isinstance(epoch_ms, int | float) or epoch_ms <= 0:
        return "-"
    seconds, millis = divmod(int(epoch_ms), 1000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{millis:03d}"


def short_id(value: Any) -> str:
    """The first 12 digits of a digest or id."""
    text = plain(value)
    return text.removeprefix("sha256:")[:12]


def short_image(value: Any) -> str:
    """Names of images, with their digests cut to the first 12 digits; `--json` has them whole."""
    return _DIGEST.sub(r"\1", plain(value))


def bar(percent: Any) -> str:
    """Percent as a bar of ten: ``####------  40``."""
    if not isinstance(percent, int | float):
        return plain(percent)
    full = min(max(round(percent / 10), 0), 10)
    return f"{'#' * full}{'-' * (10 - full)} {percent:3.0f}"
