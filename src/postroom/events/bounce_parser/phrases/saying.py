"""Phrases of one meaning, and whether one of them occurs.

Written as `classify.normalised` writes: case-folded, single spaces; divided by `|`. ` … ` stands for up to `MAX_GAP` characters
of anything. Phrases are searched for, not matched by patterns: nothing a stranger writes can make that run long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from postroom.model.event import BounceClass, BounceType

MAX_GAP = 100


@dataclass(frozen=True, slots=True)
class Saying:
    """What they mean. `type` is for refusals that last."""

    category: BounceClass
    type: BounceType
    phrases: str
    whole: tuple[str, ...] = field(init=False)
    gapped: tuple[tuple[str, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        each = [" ".join(phrase.split()) for phrase in self.phrases.split("|")]
        object.__setattr__(self, "whole", tuple(phrase for phrase in each if "…" not in phrase))
        object.__setattr__(self, "gapped", tuple(tuple(phrase.split(" … ")) for phrase in each if "…" in phrase))

    def heard_in(self, words: str) -> bool:
        """Whether one of them occurs."""
        return any(phrase in words for phrase in self.whole) or any(in_order(pieces, words) for pieces in self.gapped)


def in_order(pieces: tuple[str, ...], words: str) -> bool:
    """From the first occurrence of the first piece on; a second try for each further occurrence would be quadratic."""
    at = words.find(pieces[0])
    for before, piece in pairwise(pieces):
        if at < 0:
            return False
        over = at + len(before)
        at = words.find(piece, over, over + MAX_GAP + len(piece))
    return at >= 0
