"""How hard the clips of a world are to tell apart; imports nothing heavy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

Difficulty = Literal["easy", "medium", "hard", "attributes"]

# The fields of WorldConfig that differ from its defaults; docs/world.md has the recalls by which they were chosen.
DIFFICULTIES: Mapping[Difficulty, Mapping[str, Any]] = MappingProxyType(
    {
        "easy": {},
        "medium": {"num_kinds": 4, "num_twins": 1},
        "hard": {"num_kinds": 2, "num_twins": 2, "off_screen": 0.2},
        # One thing a clip, of two kinds: without its height and its size a clip is like half of all clips.
        "attributes": {"num_kinds": 2, "most_turns": 1},
    }
)
