"""Printed figures with the thresholds that they must not exceed."""

from __future__ import annotations

import math

from attrs import define, field

MIB = 1 << 20


@define(eq=False)
class Thresholds:
    """The thresholds that were exceeded so far."""

    exceeded: list[str] = field(factory=list)

    def figure(
        self, name: str, value: float, unit: str = "", *, most: float | None = None, note: str = ""
    ) -> None:
        """Print a figure in a line of its own, with its threshold *most*, if it has one."""
        threshold = "" if most is None else f"at most {most:,g}"
        print(
            f"  {name:52}{_shown(value):>12} {unit:10}{threshold:>16}"
            f"  {self.verdict(name, value, most)}"
            f"{f'  ({note})' if note else ''}".rstrip(),
            flush=True,
        )

    def verdict(self, name: str, value: float, most: float | None) -> str:
        """Return a word for the comparison; a value that is not a number exceeds any threshold."""
        if most is None:
            return ""
        if value <= most:
            return "holds"
        self.exceeded.append(f"{name}: {_shown(value)}, and at most {most:,g} is allowed")
        return "MISSED"

    def end(self) -> int:
        """Print the exceeded thresholds; return the exit status."""
        print()
        for exceeded in self.exceeded:
            print(f"MISSED: {exceeded}")
        if not self.exceeded:
            print("All thresholds hold.")
        return int(bool(self.exceeded))


def _shown(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.2f}"
