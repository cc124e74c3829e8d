"""Makes ``ghmirror_tw/github/pagination_table.py`` from GitHub's OpenAPI description.

The description is that of npm ``@octokit/openapi``, which ``tests/package.json`` names. After an
update of it: ``python -m tests.harness.pagination_table`` writes the table anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PACKAGE: Final = ROOT / "tests" / "node_modules" / "@octokit" / "openapi"
TABLE: Final = ROOT / "ghmirror_tw" / "github" / "pagination_table.py"

#: What the documentation says of nearly all operations: 30 items, 100 at most.
USUAL: Final = (30, 100)
_MOST: Final = re.compile(r"\(max (\d+)\)")
_PARAMETER: Final = re.compile(r"\{[^{}]*\}")
#: Operations of which these segments at the end are the same do the same for other owners.
_SAME_AT_END: Final = 3

_HEAD: Final = '''\
"""How each GET operation of GitHub's REST API is paginated.

Made by ``python -m tests.harness.pagination_table`` from GitHub's OpenAPI description
(npm ``@octokit/openapi`` {version}); not to be edited. A line is a path template, and the items of
a page by default and at most where they are not {size} and {most}. ``{{}}`` is one segment of a
path, ``{{+}}`` any number.
"""

from __future__ import annotations

from typing import Final
'''
_SECTIONS: Final = {
    "NUMBERED": "Pages have numbers (`page`).",
    "CURSORS": "A page is named by a cursor (`before`, `after`, `cursor`) or an item (`since`).",
    "NONE": "There are no pages.",
}


class Description:
    """GitHub's OpenAPI description."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.version: str = json.loads((package / "package.json").read_text())["version"]
        self._all = json.loads((package / "generated" / "api.github.com.json").read_text())

    def resolved(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *value*, or the target of its reference."""
        while "$ref" in value:
            found = self._all
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name.replace("~1", "/").replace("~0", "~")]
            value = found
        return value

    def operations(self) -> Iterator[Operation]:
        """Return the GET operations."""
        for path, item in self._all["paths"].items():
            if "get" in item:
                yield Operation(self, path, item["get"])


class Operation:
    """A GET operation."""

    def __init__(self, description: Description, path: str, described: Mapping[str, Any]) -> None:
        parameters = [description.resolved(each) for each in described.get("parameters", ())]
        self.query = {each["name"]: each for each in parameters if each["in"] == "query"}
        found = description.resolved(described["responses"].get("200", {}))
        self.has_link = "Link" in found.get("headers", {})
        several = {each["name"] for each in parameters if each.get("x-multi-segment")}
        self.template = _PARAMETER.sub("{}", path)
        last = path.rpartition("/")[2]
        if last[1:-1] in several:
            self.template = path[: -len(last)]
            self.template = _PARAMETER.sub("{}", self.template) + "{+}"

    @property
    def kind(self) -> str | None:
        """The section of the table, or None where the description has no information."""
        names = self.query.keys()
        if "page" in names:
            return "NUMBERED"
        # Beside `page`, or without `per_page`, `before` is a date.
        if "cursor" in names or "after" in names or "since" in names:
            return "CURSORS"
        return None if "per_page" in names or self.has_link else "NONE"

    @property
    def size(self) -> tuple[int, int]:
        """The items of a page: by default, and at most."""
        described = self.query.get("per_page", {})
        most = _MOST.search(described.get("description", ""))
        default = described.get("schema", {}).get("default", USUAL[0])
        return default, int(most[1]) if most else USUAL[1]

    @property
    def line(self) -> str:
        """The line of the table."""
        return self.template if self.size == USUAL else "{} {} {}".format(self.template, *self.size)

    @property
    def end(self) -> tuple[str, ...]:
        """The last segments of the path."""
        return tuple(self.template.split("/")[-_SAME_AT_END:])


def table(package: Path = PACKAGE) -> str:
    """Return the table as a Python module."""
    description = Description(package)
    operations = sorted(description.operations(), key=lambda each: each.template)
    # Some descriptions lack the parameters that those of the same operation for others have.
    with_pages = {each.end for each in operations if each.kind in {"NUMBERED", "CURSORS"}}
    size, most = USUAL
    parts = [_HEAD.format(version=description.version, size=size, most=most)]
    for name, text in _SECTIONS.items():
        lines = [
            each.line
            for each in operations
            if each.kind == name and not (name == "NONE" and each.end in with_pages)
        ]
        parts.append(f'\n#: {text}\n{name}: Final = """\\\n' + "\n".join(lines) + '\n"""\n')
    return "".join(parts)


if __name__ == "__main__":
    TABLE.write_text(table())
