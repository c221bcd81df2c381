"""Steps of a life, dealt like cards: each kind as often as it says, in an order that a seed decides.

A step that cannot be taken yet is put back among those that come later, and goes on into the next life if it never could
be; so what is rare by chance still happens, and how often is written beside each step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any, TypeVar

Act = TypeVar("Act", bound=Callable[..., object])
Draw = Callable[[Random], Any]


@dataclass(frozen=True)
class Step:
    """`chosen` are the arguments that the card names, `drawn` those that are drawn when it is played."""

    act: Callable[..., object]
    when: Callable[..., object]
    chosen: dict[str, Any]
    drawn: dict[str, Draw]

    def can_be_taken(self, life: Any) -> bool:
        return bool(self.when(life, **self.chosen))

    def take(self, life: Any, random: Random) -> None:
        arguments = self.chosen | {name: draw(random) for name, draw in self.drawn.items()}
        print(self.act.__name__, arguments)  # pytest shows it where the life goes wrong
        self.act(life, **arguments)


STEPS: dict[Callable[..., object], list[Step]] = {}
"""By the method that takes them."""


def step(
    times: int, when: Callable[..., object] = lambda *_, **__: True, **arguments: Draw | Iterable[Any]
) -> Callable[[Act], Act]:
    """Cards for a method: so many for each choice of the arguments that are listed; the others are drawn."""
    drawn = {name: values for name, values in arguments.items() if callable(values)}
    listed = {name: [*values] for name, values in arguments.items() if not callable(values)}

    def deal_with(act: Act) -> Act:
        choices = [dict(zip(listed, values, strict=True)) for values in product(*listed.values())]
        STEPS[act] = [Step(act, when, chosen, drawn) for chosen in choices for _ in range(times)]
        return act

    return deal_with


def hands_of(kind: type, lives: int, random: Random) -> Iterator[list[Step]]:
    """All the steps of a kind of life, shuffled, in as many hands."""
    deck = [card for method in vars(kind).values() if callable(method) for card in STEPS.get(method, [])]
    random.shuffle(deck)
    return (deck[at::lives] for at in range(lives))


def play(life: Any, hand: list[Step], random: Random) -> list[Step]:
    """Take one step after the other; returns those that never could be taken."""
    waiting = list(hand)
    while any(card.can_be_taken(life) for card in waiting):
        card = waiting.pop()
        if card.can_be_taken(life):
            card.take(life, random)
        else:
            waiting.insert(random.randint(0, len(waiting)), card)
    return waiting
