"""What the doctor finds."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "note", "warning", "problem"]
"""``note``: nothing to do; ``warning``: slower or riskier than it need be; ``problem``: it does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""
    """What to do; empty if there is nothing to do."""
