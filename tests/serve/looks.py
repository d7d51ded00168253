"""What can be said of a page without a person: contrast, names of controls, scopes of headers, room. See looks.js."""

from pathlib import Path

from browser import Page

SCRIPT = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")
# The words of the interface, as a screen reader says them: every role that is pressed, chosen or read has one.
NAMED = {"button", "link", "combobox", "searchbox", "checkbox", "progressbar", "dialog", "table", "image", "region", "search"}


def nameless(tree: list[dict[str, object]]) -> list[str]:
    """Nodes of the accessibility tree that need a name and have none."""
    found = []
    for node in tree:
        role, name = node.get("role"), node.get("name")
        if (
            isinstance(role, dict)
            and role.get("value") in NAMED
            and not (isinstance(name, dict) and str(name.get("value", "")).strip())
        ):
            found.append(f"{role.get('value')} without a name (node {node.get('backendDOMNodeId')})")
    return found


def faults(page: Page) -> list[str]:
    """All that is wrong with what the page shows now."""
    found = page.js(f"(() => {{ {SCRIPT}; return [...contrast(), ...markup(), ...room()]; }})()")
    return [*map(str, found), *nameless(page.tree())]
