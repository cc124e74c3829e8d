"""The picture of the rooms, drawn from the code: ``.. rooms::``.

A row holds the rooms of one rank: each imports from rows below, and from no other. So the picture
is what `tests.system.test_layout` holds the code to.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE: Final = Path(__file__).resolve().parents[2] / "ghmirror_tw"
_WIDTH: Final = 760
#: The height of a row by the number of its rooms; text in narrow ones takes more lines.
_HEIGHTS: Final = (52, 66, 82)
_GAP: Final = 8


def room_of(path: Path) -> str:
    """Return the room of a file: the package or module at the top that holds it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms() -> dict[str, tuple[str, int, set[str]]]:
    """Return each room's purpose, its number of modules, and the rooms that it imports from."""
    found: dict[str, tuple[str, int, set[str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path)
        if room == "__init__":
            continue
        purpose, count, imports = found.get(room, ("", 0, set()))
        tree = ast.parse(path.read_text())
        if path.parent == PACKAGE or path == PACKAGE / room / "__init__.py":
            purpose = (ast.get_docstring(tree) or "").partition("\n")[0].replace("`", "")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ghmirror_tw."):
                imports = imports | {str(node.module).split(".")[1]}
            elif isinstance(node, ast.ImportFrom) and node.module == "ghmirror_tw":
                imports = imports | {alias.name for alias in node.names}
        found[room] = purpose, count + (path.name != "__init__.py"), imports - {room, "__version__"}
    return found


def ranks(found: dict[str, tuple[str, int, set[str]]]) -> dict[str, int]:
    """Return how high each room stands: above every room that it imports from."""
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            below = [height(other) for other in found[room][2] if other in found]
            heights[room] = 1 + max(below, default=-1)
        return heights[room]

    for room in found:
        height(room)
    return heights


def picture() -> str:
    """Return the rooms as SVG, the highest rank first."""
    found = rooms()
    heights = ranks(found)
    top = max(heights.values())
    parts = []
    y = 0
    for rank in range(top, -1, -1):
        row = sorted(room for room, height in heights.items() if height == rank)
        width = (_WIDTH - _GAP * (len(row) - 1)) / len(row)
        tall = _HEIGHTS[min(len(row), len(_HEIGHTS)) - 1]
        for number, room in enumerate(row):
            x = number * (width + _GAP)
            purpose, count, imports = found[room]
            below = "imports from " + ", ".join(sorted(imports)) if imports else "imports nothing"
            modules = f"{count} module{'s' if count > 1 else ''}"
            parts.append(
                f'<g transform="translate({x:.1f} {y})"><title>{escape(f"{purpose} {below}")}'
                f'</title><rect width="{width:.1f}" height="{tall}" rx="4" fill="none" '
                f'stroke="currentColor"/><text x="10" y="24" font-weight="bold">{room}</text>'
                f'<text x="{width - 10:.1f}" y="24" text-anchor="end" opacity="0.7" '
                f'font-size="12">{modules}</text><foreignObject x="10" y="30" '
                f'width="{width - 20:.1f}" height="{tall - 32}"><p xmlns='
                f'"http://www.w3.org/1999/xhtml" style="margin:0;font-size:12px;line-height:1.25">'
                f"{escape(purpose)}</p></foreignObject></g>"
            )
        y += tall + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {_WIDTH + 2} {y + 2 - _GAP}" '
        f'role="img" aria-label="The rooms of the code by rank" fill="currentColor" '
        f'font-family="sans-serif" font-size="15">{"".join(parts)}</svg>'
    )


class Rooms(SphinxDirective):
    """``.. rooms::``: the picture."""

    def run(self) -> list[nodes.Node]:
        """Return it, to be drawn again whenever the code has changed."""
        for path in PACKAGE.rglob("*.py"):
            self.env.note_dependency(str(path))
        return [nodes.raw("", picture(), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
