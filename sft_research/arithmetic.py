"""Sums and differences in words: generated, seeded, checkable, with the working written out.

{"instruction": "Calculate 63 plus 59.",
 "thinking": "63 + 50 = 113, and 113 + 9 = 122.",
 "response": "122"}
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sft_research.config import ConfigError
from sft_research.dataset import Rows

SUMS = (
    "Calculate {a} plus {b}.",
    "What is {a} + {b}?",
    "Add {b} to {a}.",
    "Tom has {a} marbles and gets {b} more. How many has he now?",
)
DIFFERENCES = (
    "Calculate {a} minus {b}.",
    "What is {a} - {b}?",
    "Subtract {b} from {a}.",
    "Ann has {a} stamps and gives {b} away. How many are left?",
)
# Of 4,095 easy and 405,450 hard pairs, so that drawing new ones at random stays quick; half of `mixed` is easy.
POSSIBLE = {"easy": 3_000, "mixed": 6_000, "hard": 100_000}


Row = dict[str, str]


@dataclass(frozen=True)
class Arithmetic:
    """`rows` training and `held_out` further questions; no pair of operands is on both sides.

    Levels: `easy` has two-digit numbers, `hard` three-digit ones, `mixed` both in turn.
    """

    rows: int
    held_out: int
    level: Literal["easy", "hard", "mixed"]
    seed: int

    def load(self) -> Rows:
        wanted = self.rows + self.held_out
        possible = POSSIBLE[self.level]
        if wanted > possible:
            held_out = self.held_out if self.held_out < possible else 64
            fix = f"dataset.rows={min(self.rows, possible - held_out)}"
            if held_out != self.held_out:
                fix += f" dataset.held_out={held_out}"
            raise ConfigError(
                f"dataset.rows={self.rows} + dataset.held_out={self.held_out} are more than the {possible} "
                f"different questions of dataset.level={self.level}. Fix: {fix}"
            )
        draw = random.Random(self.seed)
        seen: dict[tuple[int, int], Row] = {}
        while len(seen) < wanted:
            hard = self.level == "hard" or (self.level == "mixed" and len(seen) % 2 == 1)
            a, b = (draw.randrange(100, 1000) if hard else draw.randrange(10, 100) for _ in range(2))
            a, b = max(a, b), min(a, b)
            if (a, b) not in seen:
                seen[a, b] = question(a, b, draw.choice)
        made = list(seen.values())
        return Rows(made[self.held_out :], made[: self.held_out], checkable=True)


def question(a: int, b: int, choose: Callable[[list[str]], str]) -> Row:
    """One row about a >= b, its template picked by `choose` from all of both kinds."""
    template = choose([*SUMS, *DIFFERENCES])
    is_sum = template in SUMS
    return {
        "instruction": template.format(a=a, b=b),
        "thinking": working(a, b if is_sum else -b),
        "response": str(a + b if is_sum else a - b),
    }


def working(a: int, b: int) -> str:
    """The sum a + b in steps of hundreds, tens and ones of b.

    working(59, 63) -> "59 + 60 = 119, and 119 + 3 = 122."
    working(85, -27) -> "85 - 20 = 65, and 65 - 7 = 58."
    """
    sign = "+" if b > 0 else "-"
    steps = []
    for place in (100, 10, 1):
        part = abs(b) // place % 10 * place
        if part:
            after = a + part if b > 0 else a - part
            steps.append(f"{a} {sign} {part} = {after}")
            a = after
    return ", and ".join(steps) + "."
