"""The runbook, and the sections to which the words of the status page lead."""

from __future__ import annotations

import re

from tests.harness.running import ROOT

RUNBOOK = (ROOT / "docs" / "runbook.rst").read_text()


def sections_for(text: str) -> set[str]:
    """Return the alerts that the runbook's table of words on the page names for *text*."""
    table = RUNBOOK.partition("the page shows")[2].partition("\nGhmirrorErrors\n")[0]
    rows = re.findall(r"^(\w.*?)  +(\*Ghmirror.*)$", table, re.MULTILINE)
    assert len(rows) > 5
    return {
        alert
        for words, alerts in rows
        if any(each in text for each in words.split("; "))
        for alert in re.findall(r"\*(\w+)\*", alerts)
    }
