"""What a version of CANN needs and runs (docs/ascend-tools.md#python-numpy, docs/ascend-tools.md#atc-versions).

Nothing is claimed about a version that is unknown. Python 3.7, standard library only.
"""

from __future__ import annotations

import bisect
import re
from typing import List, NamedTuple, Tuple

Version = Tuple[Tuple[int, ...], Tuple[Tuple[int, int], ...]]  # numbers, stages; comparable
STAGES = {"alpha": 0, "beta": 1, "rc": 2}
FINAL = 3

# The minor versions of CANN; four of them are the "version periods" in which an .om stays usable.
RELEASES = [(6, 0), (6, 3), (7, 0), (8, 0), (8, 1), (8, 2), (8, 3), (8, 5), (9, 0), (9, 1)]
PERIODS = 4
PYTHONS: List[Tuple[Tuple[int, ...], int]] = [
    ((9, 1), 14),
    ((8, 5), 13),
    ((8, 2), 11),
    ((), 10),
]  # from this CANN on: newest Python 3
COMPONENTS_LIKE_CANN = (8, 2)  # before, the components had another numbering: 7.6.0.1.220 is of CANN 8.0.0
OPS_PACKAGE = (8, 5)  # from here on the operators are a package of their own
NEWEST = {"Ascend310": (8, 2)}  # the newest CANN for a soc_version (docs/ascend-tools.md#soc-version)


def parse(text: str) -> Version | None:
    """A version such as 8.5.0, 8.3.RC1 or 9.0.0-beta.2, to be compared; None if it is unknown.

    8.0.RC3.alpha001 < 8.0.RC3 < 8.0.0.
    """
    match = re.match(
        r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?((?:[.-]?(?:alpha|beta|rc)\.?\d{0,9})*)", text, re.IGNORECASE
    )
    if not match:
        return None
    found = re.findall(r"(alpha|beta|rc)\.?(\d*)", match.group(4), re.IGNORECASE)
    stages = [(STAGES[word.lower()], int(n or 0)) for word, n in found]
    return tuple(int(number or 0) for number in match.groups()[:3]), (*stages, (FINAL, 0))


def is_component(text: str) -> bool:
    """Whether a version has the five parts of a component's, such as 7.6.0.1.220 or 7.6.T13.0.B094."""
    return re.fullmatch(r"\d+\.\d+(\.\w+){3,}", text, re.ASCII) is not None


def minor(text: str) -> Tuple[int, ...]:
    """(8, 5) for 8.5.0 and 8.5.RC1; empty if the version is unknown."""
    version = parse(text)
    return version[0][:2] if version else ()


def newest_python(cann: str) -> int:
    """The newest Python 3.x of a CANN, as x; of every CANN if it is unknown. The oldest is 3.7."""
    return next(newest for since, newest in PYTHONS if minor(cann) >= since)


class Numpy(NamedTuple):
    """The versions of numpy that CANN works with."""

    text: str  # numpy < 2
    package: str  # for pip install; empty: no such version exists for this Python
    fits: bool  # whether the installed one does


def numbers_of(text: str) -> List[int]:
    """The first three numbers of a version of numpy; empty if it has none."""
    match = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", text)
    return [int(number or 0) for number in match.groups()] if match else []


def numpy_for(cann: str, python: List[int], installed: str) -> Numpy:
    """What `cann` needs for a Python. For an unknown CANN it is < 2, which every version accepts below Python 3.13."""
    have, needs, is_new = numbers_of(installed), minor(cann), python[:2] >= [3, 13]  # for which numpy 2.1 is the oldest
    if needs >= (9, 0):
        return Numpy("numpy >= 1.19.2", "numpy" if is_new else "numpy<2", have >= [1, 19, 2])  # aclruntime may need < 2
    if needs >= (8, 5) and is_new:
        return Numpy("numpy > 2.1", "numpy>2.1", have > [2, 1, 0])
    return Numpy("numpy < 2", "" if is_new else "numpy<2", bool(have) and have < [2])


def model_problem(compiled: str, running: str) -> Tuple[str, bool]:
    """(the problem of an .om of CANN `compiled` on CANN `running` or an empty text, whether it cannot run).

    Of a component only the minor version is compared, because it has no stage: 8.2.0.2.220 is of 8.2.RC2.
    """
    by, here = parse(compiled), parse(running)
    components = [text for text in (compiled, running) if is_component(text)]
    if not by or not here or any(minor(text) < COMPONENTS_LIKE_CANN for text in components):
        return "", False
    if (by[0][:2] > here[0][:2]) if components else (by > here):
        return f"compiled by CANN {compiled}, which is newer than CANN {running} of this host", True
    periods = bisect.bisect_right(RELEASES, here[0][:2]) - bisect.bisect_right(RELEASES, by[0][:2])
    if periods > PERIODS:
        return f"compiled by CANN {compiled}, more than {PERIODS} versions before CANN {running} of this host", False
    return "", False
