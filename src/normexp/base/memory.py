"""How much memory there is, and how sizes are written."""

import os
import re
from pathlib import Path
from typing import Final

from normexp.base.errors import RangeError

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def available_bytes() -> int | None:
    """Memory that a process can still have, in bytes; None where the system does not tell.

    Returns
    -------
    int or None
        On Linux what can be had without swapping, or what is left of the limit of the control group, if that is less;
        elsewhere on POSIX the free pages, or half of all.

    Examples
    --------
    >>> found = available_bytes()
    >>> found is None or found > 0
    True
    """
    found = [1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    if not found and hasattr(os, "sysconf"):
        for name, share in (("SC_AVPHYS_PAGES", 1), ("SC_PHYS_PAGES", 2)):
            if name in os.sysconf_names and not found:
                found.append(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") // share)
    return min(found, default=None)


def read_size(size: str, /, *, of: str) -> int:
    """Bytes of a size such as "300MB", "2.5 GiB" or "1000000".

    Parameters
    ----------
    size : str
        A number, and perhaps a unit: kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024), or one letter.
    of : str
        Who asks, for the sentence.

    Returns
    -------
    int
        The bytes.

    Raises
    ------
    RangeError
        For anything else.

    Examples
    --------
    >>> read_size("300MB", of="fit"), read_size("2 GiB", of="fit"), read_size("1.5k", of="fit")
    (300000000, 2147483648, 1500)
    """
    match = _SIZE.fullmatch(size)
    if match is None or float(match[1]) == 0 or (match[3] and not match[2]):
        raise RangeError(f"{of}: {size!r} is no amount of memory; a number with a unit, such as 300MB or 4GiB, is.")
    unit = _UNITS[match[2].lower()]
    if match[3]:
        unit = 2 ** (10 * list(_UNITS).index(match[2].lower()))
    return int(float(match[1]) * unit)


def in_words(n_bytes: float, /) -> str:
    """A number of bytes for people, in powers of 1000 with two digits.

    Examples
    --------
    >>> in_words(1_234_567_890), in_words(300e6), in_words(12)
    ('1.2 GB', '300 MB', '12 B')
    """
    for letter, unit in reversed(_UNITS.items()):
        if letter and n_bytes >= 0.9995 * unit:
            value = n_bytes / unit
            return f"{value:.1f} {letter.upper()}B" if value < 9.95 else f"{value:.0f} {letter.upper()}B"
    return f"{n_bytes:.0f} B"


def _lines(path: str) -> list[str]:
    """Lines of a file of the system; none where there is no such file."""
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
