"""References of options and metrics that are generated from the code.

``.. settings:: SECTION`` describes the options of a section, ``.. metrics::`` all metrics.

Pages are also read unrendered, on a code host. So they name options and other pages in plain
literals, ``[redis] url`` and ``docs/redis.rst``. This extension replaces them by links. An unknown
name is a warning, which fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from ghmirror_tw.config import settings
from ghmirror_tw.config.option import Option
from ghmirror_tw.config.settings import OPTIONS, SECTIONS
from ghmirror_tw.telemetry import metric_catalogue
from ghmirror_tw.telemetry.metric_catalogue import catalogue

#: ``[section] option``, optionally more options of that section, or a value after ``=``.
_OPTION: Final = re.compile(r"\[([a-z]+)\] ([a-z0-9_]+)((?: [a-z0-9_]+)*)(?: =.*)?")
_PAGE: Final = re.compile(r"docs/([a-z]+)\.rst")


def facts(pairs: Iterable[tuple[str, nodes.Node]]) -> nodes.field_list:
    """Return a list of fields."""
    made = nodes.field_list()
    for name, value in pairs:
        body = nodes.field_body("", nodes.paragraph("", "", value))
        made += nodes.field("", nodes.field_name("", name), body)
    return made


def entry(name: str, text: str, about: nodes.Node) -> nodes.definition_list_item:
    """Return a definition of *name*."""
    term = nodes.term("", "", nodes.literal("", name))
    definition = nodes.definition("", nodes.paragraph("", text), about)
    return nodes.definition_list_item("", term, definition)


def facts_of(option: Option) -> Iterator[tuple[str, nodes.Node]]:
    """Yield the properties of an option except its help."""
    if option.default:
        yield "Default", nodes.literal("", option.default)
    else:
        yield "Default", nodes.Text("empty")
    yield "Expected", nodes.Text(option.expected)
    yield "Environment", nodes.literal("", option.variable)
    yield "Read again", nodes.Text(option.reread or "no; at the next start")


class Settings(SphinxDirective):
    """``.. settings:: SECTION``: the options of a section."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the descriptions, with targets for links."""
        self.env.note_dependency(str(settings.__file__))
        section = self.arguments[0]
        if section not in SECTIONS:
            raise self.error(f"There is no section {section!r}.")
        made = nodes.definition_list(classes=["settings"])
        standard = self.env.domains.standard_domain
        for option in OPTIONS:
            if option.section == section:
                item = entry(option.name, option.help, facts(facts_of(option)))
                term: Any = item[0]
                term["ids"].append(f"{section}-{option.name}".replace("_", "-"))
                self.set_source_info(term)
                name = f"{section}.{option.name}"
                standard.note_object("confval", name, term["ids"][0], location=term)
                made += item
        return [nodes.paragraph("", SECTIONS[section].__doc__ or ""), made]


class Metrics(SphinxDirective):
    """``.. metrics::``: all metrics."""

    def run(self) -> list[nodes.Node]:
        """Return the descriptions."""
        self.env.note_dependency(str(metric_catalogue.__file__))
        made = nodes.definition_list(classes=["metrics"])
        for each in catalogue():
            labels = nodes.Text(", ".join(each.labels) or "none")
            about = facts((("Kind", nodes.Text(each.kind)), ("Labels", labels)))
            made += entry(each.name, each.help, about)
        return [made]


class Linking(SphinxTransform):
    """Replaces literals that name an option or a page by links."""

    default_priority = 500

    def apply(self, **_more: Any) -> None:
        """Replace all literals of the document."""
        for literal in list(self.document.findall(nodes.literal)):
            text = " ".join(literal.astext().split())
            if found := _PAGE.fullmatch(text):
                self._refer(literal, "doc", f"/{found[1]}")
            elif (found := _OPTION.fullmatch(text)) and found[1] in SECTIONS:
                self._refer(literal, "confval", f"{found[1]}.{found[2]}")
                self._check(literal, found[1], found[3].split())

    def _refer(self, literal: nodes.literal, kind: str, target: str) -> None:
        refers: Any = pending_xref(
            "",
            literal.deepcopy(),
            refdomain="std",
            reftype=kind,
            reftarget=target,
            refexplicit=kind != "doc",  # a page is called by its title
            refwarn=True,
            refdoc=self.env.current_document.docname,
        )
        refers.source, refers.line = literal.parent.source, literal.parent.line
        literal.replace_self(refers)

    def _check(self, literal: nodes.literal, section: str, names: list[str]) -> None:
        known = {option.name for option in OPTIONS if option.section == section}
        for name in names:
            if name not in known:
                self.document.reporter.warning(
                    f"there is no option {name!r} in [{section}]", base_node=literal
                )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the transform."""
    app.add_directive("settings", Settings)
    app.add_directive("metrics", Metrics)
    app.add_transform(Linking)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
