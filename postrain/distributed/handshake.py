"""Before the first step: do all ranks run the same code on the same data with the same recipe?"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from postrain import __version__
from postrain.distributed.team import Team
from postrain.errors import RecipeError

_PACKAGES = ("posit", "ga", "postrain")


@cache
def code_digest() -> str:
    """SHA-256 of the sources of our packages: their paths and contents.

    >>> len(code_digest())
    64
    """
    root, sha = Path(__file__).parents[2], hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            sha.update(f"\n{path.relative_to(root).as_posix()}\n".encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()


def require_equal(team: Team, facts: Mapping[str, Any]) -> None:
    """Compare JSON facts over the ranks, with the version and digest of the code.

    Raises:
        RecipeError: on every rank, with the first fact in which they differ, and who has what.
    """
    own = {"code": {"version": __version__, "digest": code_digest()}, **facts}
    flat = dict(_flattened("", own))
    every = [dict(each) for each in team.gather(list(flat.items()))]
    for name in dict.fromkeys(name for each in every for name in each):
        values = [each.get(name) for each in every]
        if any(value != values[0] for value in values):
            raise RecipeError(
                f"the ranks differ in {name}: {_listed(values)}; start all of them with the same configuration, data "
                "and version of postrain"
            )


def _flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flattened(f"{name}.{key}".lstrip("."), item)
    else:
        yield name, json.dumps(value, default=str)


def _listed(values: list[str | None]) -> str:
    """Who has what, at most three values."""
    by_value: dict[str | None, list[int]] = {}
    for rank, value in enumerate(values):
        by_value.setdefault(value, []).append(rank)
    parts = []
    for value, ranks in list(by_value.items())[:3]:
        who = ", ".join(map(str, ranks[:4])) + (", …" if len(ranks) > 4 else "")
        parts.append(
            f"rank{'s' if len(ranks) > 1 else ''} {who}: {'nothing' if value is None else value[:80]}"
        )
    return "; ".join(parts)
