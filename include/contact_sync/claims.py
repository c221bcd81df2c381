"""Settles contested claims exactly as rule 4.9 says. Pure, plain Python: `match` sends only what is contested here.

A claim is one source record's wish: to fill its contact, or to find or create one, and to own its handles there.
Claims that can touch one another (through a handle or a contact) form a group; groups are settled one by one,
which gives the same result as settling all at once, because a claim never looks outside its group.
"""

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Handle = tuple[str, str]
"""(source, value)"""

Giver = tuple[str, str]
"""(source, Salesforce field): who gave a handle that a mapped Salesforce field gave."""


@dataclass(frozen=True)
class Claim:
    """What one source record claims.

    Attributes:
        order: place in the order of rule 4.8 among the unlinked; lower Salesforce ids come first.
        contact: the contact that is linked to the record, None where there is none.
        handles: what was read, in the order of rule 4.2, with the field that gave each.
        unreadable: the fields whose value could not be read now; what they gave before stays (rule 3.6).
    """

    order: int
    contact: int | None
    handles: Mapping[Handle, str]
    unreadable: frozenset[Giver] = frozenset()


@dataclass(frozen=True)
class Holder:
    """A stored contact. `handles`: who gave each one; None where it stays whatever Salesforce says (rules 3.4 and 4.10)."""

    linked: bool
    handles: Mapping[Handle, Giver | None]


@dataclass(frozen=True)
class Decision:
    """What became of a claim.

    Attributes:
        contact: the stored contact it fills, None where one is created; meaningless where `collisions` is not empty.
        collisions: why it was skipped: each colliding handle and the contact that holds it in the end state.
            A contact that this run creates has the number -1 - order of its claim.
    """

    contact: int | None
    collisions: tuple[tuple[Handle, int], ...] = ()


def settle(claims: Sequence[Claim], holders: Mapping[int, Holder]) -> dict[int, Decision]:
    """Decide every claim; the key of the result is the claim's order.

    Args:
        holders: every stored contact that a claim is linked to or that owns one of the claimed handles.
    """
    owners = {handle: contact for contact, holder in holders.items() for handle in holder.handles}
    decisions: dict[int, Decision] = {}
    for group in _groups(claims, owners):
        contacts = {claim.contact for claim in group if claim.contact is not None}
        contacts |= {owners[handle] for claim in group for handle in claim.handles if handle in owners}
        decisions |= _settle_group(group, {contact: holders[contact] for contact in contacts})
    return decisions


def _groups(claims: Sequence[Claim], owners: Mapping[Handle, int]) -> Iterable[list[Claim]]:
    """Claims that share a handle or a contact, directly or through others; each group in the order of rule 4.8."""
    parents: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for claim in claims:
        mine = root(("claim", claim.order))
        touched: list[Hashable] = [*claim.handles, *(owners[handle] for handle in claim.handles if handle in owners)]
        if claim.contact is not None:
            touched.append(claim.contact)
        for node in touched:
            parents[root(node)] = mine
    groups: dict[Hashable, list[Claim]] = {}
    for claim in sorted(claims, key=lambda claim: (claim.contact is None, claim.order)):
        groups.setdefault(root(("claim", claim.order)), []).append(claim)
    return groups.values()


def _settle_group(claims: list[Claim], holders: dict[int, Holder]) -> dict[int, Decision]:
    """Rule 4.9: rounds a and b, started again from what they leave (c) until nothing changes."""
    targets: dict[int, int | None] = {}
    while True:
        round_ = _Round(claims, holders)
        round_.skip_collisions()
        end = round_.end_state()
        round_.admit_where_there_is_room(end)
        newly = [claim for claim in claims if claim.order in round_.accepted and claim.order not in targets]
        targets |= {claim.order: round_.target[claim.order] for claim in newly}
        if not newly:
            break
        holders = end.holders()
        claims = [replace(claim, contact=end.contact_of(claim, round_)) for claim in claims]
        claims.sort(key=lambda claim: (claim.contact is None, claim.order))
    return {
        claim.order: Decision(targets[claim.order])
        if claim.order in targets
        else Decision(None, tuple(end.collisions(claim)))
        for claim in claims
    }


@dataclass
class _EndState:
    """The store as the accepted claims leave it."""

    linked: dict[int, bool]
    handles: dict[int, dict[Handle, Giver | None]]
    owner: dict[Handle, int] = field(init=False)

    def __post_init__(self) -> None:
        self.owner = {handle: contact for contact, handles in self.handles.items() for handle in handles}

    def apply(self, claim: Claim, contact: int) -> set[Handle]:
        """Let `claim` fill `contact`; returns the handles that became free."""
        before = self.handles.get(contact, {})
        kept = {handle: giver for handle, giver in before.items() if not _is_given_up(handle, giver, claim)}
        now = {**kept, **{handle: (handle[0], giver) for handle, giver in claim.handles.items()}}
        released = before.keys() - now.keys()
        for handle in released:
            if self.owner.get(handle) == contact:
                del self.owner[handle]
        self.owner |= dict.fromkeys(now, contact)
        self.handles[contact] = now
        self.linked[contact] = True
        return set(released)

    def collisions(self, claim: Claim) -> list[tuple[Handle, int]]:
        owned = ((handle, self.owner[handle]) for handle in claim.handles if handle in self.owner)
        return [(handle, contact) for handle, contact in owned if contact != claim.contact]

    def room_for(self, claim: Claim) -> tuple[bool, int | None]:
        """Whether the end state has room for `claim`, and the contact that it would fill (None: a new one)."""
        found = {contact for _, contact in self.collisions(claim)}
        if claim.contact is not None or not found:
            return not found, claim.contact
        only = next(iter(found))
        return len(found) == 1 and not self.linked[only], only

    def holders(self) -> dict[int, Holder]:
        return {contact: Holder(self.linked[contact], handles) for contact, handles in self.handles.items()}

    def contact_of(self, claim: Claim, round_: "_Round") -> int | None:
        if claim.order not in round_.accepted:
            return claim.contact
        contact = round_.target[claim.order]
        return -1 - claim.order if contact is None else contact


class _Round:
    """One round of rule 4.9: which claims are accepted, and the contact that each would fill."""

    def __init__(self, claims: list[Claim], holders: Mapping[int, Holder]) -> None:
        self.claims = claims
        self.holders = holders
        self.owner = {handle: contact for contact, holder in holders.items() for handle in holder.handles}
        self.accepted = {claim.order for claim in claims}
        self.target = {claim.order: self._first_target(claim) for claim in claims}
        self._place = {claim.order: place for place, claim in enumerate(claims)}
        # Heaps of places; what is no longer true is dropped when it comes to the top.
        self._wanting: dict[Handle, list[int]] = {}
        self._filling: dict[int, list[int]] = {}
        self._claiming: dict[Handle, list[int]] = {}
        for place, claim in enumerate(claims):
            for handle in claim.handles:
                self._wanting.setdefault(handle, []).append(place)
                self._claiming.setdefault(handle, []).append(place)
            self._fill(claim, self.target[claim.order])

    def _first_target(self, claim: Claim) -> int | None:
        if claim.contact is not None:
            return claim.contact
        found = {self.owner[handle] for handle in claim.handles if handle in self.owner}
        only = next(iter(found)) if len(found) == 1 else None
        return only if only is not None and not self.holders[only].linked else None

    def skip_collisions(self) -> None:
        """Step a: repeat until a whole pass neither skips anybody nor moves anybody to another contact.

        What is judged of a claim can only change with the fillers of the contacts it wants something of, so a pass
        looks again at those claims alone; the result is that of looking at all.
        """
        # The passes end. Nobody gives up a handle for itself, so whoever fills a contact finds it held, and stays or is
        # skipped; and a claim comes to a contact only if it precedes whoever fills it. So from one skip to the next the
        # filler of a contact only ever makes way for an earlier one, and nobody's verdict depends on anything else.
        due = list(range(len(self.claims)))
        while due:
            next_pass: set[int] = set()
            queued = set(due)
            while due:
                place = heapq.heappop(due)
                queued.discard(place)
                for other in self._look_at(place):
                    if other <= place:
                        next_pass.add(other)
                    elif other not in queued:
                        queued.add(other)
                        heapq.heappush(due, other)
            due = sorted(next_pass)

    def _look_at(self, place: int) -> Iterable[int]:
        """Skip or move a claim if need be; returns the places of the claims for which that can make a difference."""
        claim = self.claims[place]
        if claim.order not in self.accepted:
            return ()
        fits, contact = self._judge(claim)
        before = self.target[claim.order]
        if fits and contact == before:
            return ()
        touched = [each for each in (before, contact if fits else None) if each is not None]
        fillers = [self._filler(each) for each in touched]
        if fits:
            self._fill(claim, contact)
        else:
            self.accepted.discard(claim.order)
        changed = [each for each, filler in zip(touched, fillers, strict=True) if self._filler(each) is not filler]
        return {other for each in changed for other in self._wanting_of(each)}

    def _wanting_of(self, contact: int) -> Iterable[int]:
        """The places of the claims that want a handle of `contact`."""
        return (place for handle in self.holders[contact].handles for place in self._claiming.get(handle, ()))

    def _judge(self, claim: Claim) -> tuple[bool, int | None]:
        holders = set()
        for handle in claim.handles:
            if self._first_wanting(handle) < self._place[claim.order]:
                return False, None
            contact = self.owner.get(handle)
            if contact is not None and contact != claim.contact and not self._gives_up(contact, handle, claim):
                holders.add(contact)
        if claim.contact is not None or not holders:
            return not holders, claim.contact
        if len(holders) > 1:
            return False, None
        only = next(iter(holders))
        filler = self._filler(only)
        free = filler is None or self._place[claim.order] <= self._place[filler.order]
        return free and not self.holders[only].linked, only

    def _first_wanting(self, handle: Handle) -> int:
        """The place of the first accepted claim that wants `handle`; the one who asks is accepted, so there is one."""
        places = self._wanting[handle]
        while self.claims[places[0]].order not in self.accepted:
            heapq.heappop(places)
        return places[0]

    def _filler(self, contact: int) -> Claim | None:
        """The first accepted claim that would fill `contact`."""
        places = self._filling.get(contact, [])
        while places:
            claim = self.claims[places[0]]
            if claim.order in self.accepted and self.target[claim.order] == contact:
                return claim
            heapq.heappop(places)
        return None

    def _fill(self, claim: Claim, contact: int | None) -> None:
        self.target[claim.order] = contact
        if contact is not None:
            heapq.heappush(self._filling.setdefault(contact, []), self._place[claim.order])

    def _gives_up(self, contact: int, handle: Handle, asking: Claim) -> bool:
        filler = self._filler(contact)
        if filler is None or filler.order == asking.order:
            return False
        return _is_given_up(handle, self.holders[contact].handles[handle], filler)

    def end_state(self) -> _EndState:
        end = _EndState(
            {contact: holder.linked for contact, holder in self.holders.items()},
            {contact: dict(holder.handles) for contact, holder in self.holders.items()},
        )
        for claim in self.claims:
            if claim.order in self.accepted:
                contact = self.target[claim.order]
                end.apply(claim, -1 - claim.order if contact is None else contact)
        return end

    def admit_where_there_is_room(self, end: _EndState) -> None:
        """Step b: the first skipped claim for which there is room; then again from the first.

        An admission can make room only for those who want what it released, so only they are looked at again.
        """
        waiting = [place for place, claim in enumerate(self.claims) if claim.order not in self.accepted]
        refused: dict[Handle, set[int]] = {}
        while waiting:
            place = heapq.heappop(waiting)
            claim = self.claims[place]
            if claim.order in self.accepted:
                continue
            fits, contact = end.room_for(claim)
            if not fits:
                for handle in claim.handles:
                    refused.setdefault(handle, set()).add(place)
                continue
            self.accepted.add(claim.order)
            self.target[claim.order] = contact
            for handle in end.apply(claim, -1 - claim.order if contact is None else contact):
                for other in refused.pop(handle, ()):
                    heapq.heappush(waiting, other)


def _is_given_up(handle: Handle, giver: Giver | None, claim: Claim) -> bool:
    """Whether a contact gives up `handle` when `claim` fills it (rules 3.6 and 4.10)."""
    return giver is not None and giver not in claim.unreadable and handle not in claim.handles
