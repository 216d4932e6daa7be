"""What a store's objects cost a month, now and once its lifecycle rules have done all they will.

The sum is over the objects that are there. What comes later ages in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from storage import keys, prices
from storage.lifecycle import Refusal, Want
from storage.objects.store import Entry, Store
from storage.prices import Class, Prices

_ORDER = list(Class)


@dataclass(slots=True)
class Holding:
    """The objects of one kind."""

    objects: int = 0
    bytes: int = 0
    before: float = 0.0  # a month, as they are kept now
    after: float = 0.0  # a month, in the end
    deleted: int = 0  # objects, in the end


@dataclass(slots=True)
class Moved:
    """What one move comes to."""

    objects: int = 0
    bytes: int = 0
    too_small: int = 0  # objects that stay where they are
    once: float = 0.0  # the moves themselves
    saved: float = 0.0  # a month


@dataclass(slots=True)
class Projection:
    """What the rules come to."""

    holdings: dict[keys.Kind, Holding] = field(default_factory=dict)
    moves: dict[str, Moved] = field(default_factory=dict)  # by the rule's name
    back: float = 0.0  # reading all once that was moved, at the usual speed

    @property
    def before(self) -> float:
        """All of it a month, now."""
        return sum(holding.before for holding in self.holdings.values())

    @property
    def after(self) -> float:
        """All of it a month, in the end."""
        return sum(holding.after for holding in self.holdings.values())

    @property
    def once(self) -> float:
        """All moves, once."""
        return sum(move.once for move in self.moves.values())

    @property
    def months_to_pay(self) -> float | None:
        """Months after which the moves have saved what they cost; None where nothing is moved."""
        saved = sum(move.saved for move in self.moves.values())
        return self.once / saved if saved > 0 else None


def project(store: Store, wanted: Sequence[Want], price_list: Prices) -> Projection:
    """Look at every object of ours, in constant memory. Raises a StoreError."""
    found = Projection(moves={want.name: Moved() for want in wanted if want.is_move})
    for kind in keys.Kind:
        mine = [want for want in wanted if want.kind == kind]
        for entry in _ours(store, kind):
            _add(found, kind, entry, mine, price_list)
    return found


def _ours(store: Store, kind: keys.Kind) -> Iterator[Entry]:
    return store.list(keys.prefix(kind))


def _add(found: Projection, kind: keys.Kind, entry: Entry, wanted: Sequence[Want], price_list: Prices) -> None:
    holding = found.holdings.setdefault(kind, Holding())
    lies = prices.class_of(entry.storage_class)
    cost = price_list.month(entry.size, lies)
    holding.objects += 1
    holding.bytes += entry.size
    holding.before += cost
    lies_in_the_end = lies
    for want in wanted:
        if want.target is None:
            holding.deleted += 1
            continue
        move = found.moves[want.name]
        if want.least is not None and entry.size < want.least:
            move.too_small += 1
        elif _ORDER.index(want.target) > _ORDER.index(lies_in_the_end):
            then = price_list.month(entry.size, want.target)
            move.objects += 1
            move.bytes += entry.size
            move.once += price_list.move(want.target)
            move.saved += price_list.month(entry.size, lies_in_the_end) - then
            lies_in_the_end = want.target
    if any(want.target is None for want in wanted):
        return
    holding.after += price_list.month(entry.size, lies_in_the_end)
    if lies_in_the_end != lies:
        found.back += price_list.retrieve(entry.size, 1, lies_in_the_end, "standard") or 0.0


def refusals(found: Projection, wanted: Sequence[Want], price_list: Prices) -> list[Refusal]:
    """Moves that would move nothing, because every object there is too small to pay for its own."""
    refused = []
    for want in wanted:
        if not want.is_move or want.least is None or want.target is None:
            continue
        move = found.moves[want.name]
        if move.too_small and not move.objects:
            held = found.holdings[keys.Kind.AUDIO]
            reason = (
                f"none of the {held.objects} objects under {keys.prefix(keys.Kind.AUDIO)} is as large as "
                f"{-(-want.least // 1024)} KiB, from where on a move (which costs {price_list.move(want.target):.5f} "
                f"{price_list.currency}) pays; they are {held.bytes // max(1, held.objects) // 1024} KiB on average"
            )
            refused.append(Refusal(want, reason))
    return refused
