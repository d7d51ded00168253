"""The user's tags as a platform can hold them: what it cannot is told before anything is made."""

import re
from collections.abc import Sequence

from v2c.model import Finding, Level
from v2c.platforms import Platform, TagRules

Tags = tuple[tuple[str, str], ...]


def fitting(tags: Tags, platform: Platform) -> tuple[Tags, tuple[Finding, ...]]:
    """The tags as they will be there, and what there is to say: those that are written in another way, and those that no way
    of writing saves, which are blockers."""
    rules = platform.tags
    if rules is None or not tags:
        return tags, ()
    found = []
    made: dict[str, str] = {}
    for key, value in tags:
        written = _folded(key, rules), _folded(value, rules)
        told = f"{key}={value}"
        if not re.fullmatch(rules.key, written[0], re.DOTALL) or not re.fullmatch(rules.value, written[1], re.DOTALL):
            text = f"{platform.title} has {rules.told}"
            found.append(Finding("tags.form", Level.BLOCKER, told, text, "write it so, or leave it out"))
        elif made.setdefault(written[0], written[1]) != written[1]:
            text = f"another tag is written {written[0]} on {platform.title}, too"
            found.append(Finding("tags.form", Level.BLOCKER, told, text, "give it another name"))
        elif written != (key, value):
            text = f"it is written {written[0]}={written[1]}: {platform.title} has {rules.told}"
            found.append(Finding("tags.written", Level.INFO, told, text, "nothing to do"))
    found += _many(tags, platform.title, rules)
    return tuple(made.items()), tuple(found)


def _many(tags: Sequence[tuple[str, str]], title: str, rules: TagRules) -> list[Finding]:
    if len(tags) <= rules.most:
        return []
    text = f"there are {len(tags)} tags, and beside those of v2c itself {title} holds {rules.most}"
    return [Finding("tags.many", Level.BLOCKER, title, text, "leave some out")]


def _folded(text: str, rules: TagRules) -> str:
    return re.sub(rules.fold, "-", text.lower()) if rules.fold else text
