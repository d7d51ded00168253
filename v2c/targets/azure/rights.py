"""Which of the rights that are needed the caller has not, by Azure's own list of what it may do in a place."""

import fnmatch
from collections.abc import Iterable, Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.model import Finding, Level
from v2c.targets.azure.session import Session

PERMISSIONS = "2022-04-01"  # api-version of Microsoft.Authorization/permissions
REMEDY = "have them added to your role (README, Azure)"


def missing(
    session: Session,
    scope: str,
    subject: str,
    wanted: Iterable[str],
    data: Iterable[str] = (),
    level: Level = Level.BLOCKER,
) -> Iterator[Finding]:
    """A finding that names them; where the list may not be read, it is said and not guessed. `data`: actions on data."""
    try:
        path = f"{scope}/providers/Microsoft.Authorization/permissions"
        granted = session.rows("the permissions cannot be read", path, PERMISSIONS)
    except TargetError as error:
        yield Finding("azure.rights", Level.WARNING, subject, error.text, "see that the rights of the README are given")
        return
    lacking = [action for action in wanted if not any(_allows(entry, action) for entry in granted)]
    lacking += [
        action for action in data if not any(_allows(entry, action, "dataActions", "notDataActions") for entry in granted)
    ]
    if lacking:
        text = f"these rights are missing on {subject}: {', '.join(lacking)}"
        yield Finding("azure.rights", level, subject, text, REMEDY)


def _allows(entry: Any, action: str, given: str = "actions", taken: str = "notActions") -> bool:
    def any_of(patterns: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)

    return any_of(entry.get(given) or []) and not any_of(entry.get(taken) or [])
