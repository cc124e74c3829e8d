"""Figures beside the bars that they must not pass, and which of them did."""

from __future__ import annotations

import math

from attrs import define, field

MIB = 1 << 20


@define(eq=False)
class Bars:
    """What was missed so far."""

    missed: list[str] = field(factory=list)

    def figure(
        self, what: str, value: float, unit: str = "", *, most: float | None = None, note: str = ""
    ) -> None:
        """Print a figure in a line of its own, with the bar that it must not pass, if any."""
        bar = "" if most is None else f"at most {most:,g}"
        print(
            f"  {what:52}{_shown(value):>12} {unit:10}{bar:>16}  {self.verdict(what, value, most)}"
            f"{f'  ({note})' if note else ''}".rstrip(),
            flush=True,
        )

    def verdict(self, what: str, value: float, most: float | None) -> str:
        """Return in a word whether *value* holds; what is not a number was not to be had."""
        if most is None:
            return ""
        if value <= most:
            return "holds"
        self.missed.append(f"{what}: {_shown(value)}, and at most {most:,g} is allowed")
        return "MISSED"

    def end(self) -> int:
        """Print what was missed; return the exit status."""
        print()
        for missed in self.missed:
            print(f"MISSED: {missed}")
        if not self.missed:
            print("All bars hold.")
        return int(bool(self.missed))


def _shown(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.2f}"
