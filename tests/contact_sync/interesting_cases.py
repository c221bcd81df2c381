"""Which situations a world really held, told from the world, the specification's answer and the store afterwards.

A proof that never met a situation proves nothing about it, so every one that is listed here must have occurred.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from tests.contact_sync.reading import read_value
from tests.contact_sync.specification import (
    Contact,
    Handle,
    World,
    end_of_chain,
    given,
    gives_up,
    is_unread,
    linked_contact,
    mirror_values,
)

Results = dict[str, tuple]

CASES = """
outcome created
outcome linked
outcome updated
outcome unchanged
error email_taken
error phone_taken
error handle_taken
error domain_taken
error no_handle
a linked contact is skipped
a linked contact to which a person added handles has none in Salesforce
a linked contact has its handles already
somebody wants a handle of one who has its handles already
somebody who has its handles already is linked through a merge
a linked contact only gives handles up
a handle goes from one contact to another
two contacts swap handles
three or more contacts pass handles round in a ring
handles move along a chain of four or more contacts
a handle that is given up goes to a new contact
a handle that is given up is free afterwards
several source contacts claim one handle
several source contacts claim one handle, spelled differently
several source contacts want the same unlinked contact
the handles belong to two or more contacts
the handles belong to several unlinked contacts, given by Salesforce
the owner is linked to a contact that this run did not read
a claim collides with a contact that this run creates
a skipped claim is admitted, for which the end state has room (4.9 b)
a claim is accepted only when starting again (4.9 c)
a claim comes to another contact in a pass that skips nobody (4.9 a)
a claim is skipped only because another came to another contact (4.9 a)
a link moves to the winner of a merge
a link moves along a chain of merges
the winner of a merge is skipped and the link stays
the winner of a merge has a contact of its own
of several losers the one with the lowest id moves
merges lead round in a circle
what a missing field gave stays
what an unreadable field gave stays
what a field gave that is mapped no more stays
what a field gave that now feeds something else stays
what a person added stays
what a person added becomes Salesforce's
only the remembered field changes
several fields give one handle
one field feeds handles of two sources
phones differ only in their extension
no handle field is mapped
an account without a domain is created
a value is mirrored
an empty value is mirrored
a contact is updated in its values alone
a value that does not fit leaves what is stored
a value that does not fit is left out where nothing is stored
what a missing field gave a value stays
a value that is not mapped stays
a skipped contact keeps values that Salesforce no longer has
web links of several fields are replaced as a whole
a web link that two fields give is kept once
web links stay as a whole while one of their fields is missing
a contact goes to the account of its AccountId
an account that a person set gives way to that of the AccountId
an account that a person set stays
an account that the sync set is taken back
a contact is updated in its account alone
a contact is updated in what the sync remembers of its account alone
""".strip().splitlines()


def cases_met(world: World, results: Results, after: list[Contact]) -> Counter[str]:
    """How often each case occurred in this world."""
    found: Counter[str] = Counter()
    for case in (*_outcomes(world, results), *_rounds(world), *_moves(world, after), *_claims(world, results, after)):
        found[case] += 1
    for case in (
        *_settled(world, results),
        *_merges(world, results),
        *_kept(world, results, after),
        *_values_and_accounts(world, results, after),
    ):
        found[case] += 1
    unknown = found.keys() - set(CASES)
    assert not unknown, unknown
    return found


def essence(world: World) -> str:
    """What matching goes by: worlds that differ in spellings, values, numbers or the names of handles alone have the same."""
    links = {contact.external_id for contact in world.store if contact.external_id}
    people = {key: at for at, key in enumerate(sorted(links.union(world.source, world.merges, world.merges.values())))}
    handles: dict[Handle, int] = {}

    def named(given_by: Mapping[Handle, str | None]) -> list[tuple[str, int, str | None]]:
        return [(handle[0], handles.setdefault(handle, len(handles)), field) for handle, field in given_by.items()]

    stored = [(people.get(contact.external_id or ""), named(contact.handles)) for contact in world.store]
    asked = [
        (people[key], named(given(world, key)), [giver for giver in world.mapping if is_unread(world, key, giver)])
        for key in sorted(world.source)
    ]
    merges = sorted((people[loser], people[winner]) for loser, winner in world.merges.items())
    return repr((world.mapping, stored, asked, merges))


def _outcomes(world: World, results: Results) -> Iterator[str]:
    for key, (outcome, code, _) in results.items():
        yield f"error {code}" if code else f"outcome {outcome}"
        mine = linked_contact(world, world.store, key)
        if mine and code:
            yield "a linked contact is skipped"
            if code == "no_handle" and None in mine.handles.values():
                yield "a linked contact to which a person added handles has none in Salesforce"
        if outcome == "created" and not given(world, key):
            yield "an account without a domain is created"
        if not world.mapping:
            yield "no handle field is mapped"


def _rounds(world: World) -> Iterator[str]:
    """The turns that rule 4.9 took."""
    for accepted in world.rounds:
        moved_before = False
        for before, now in pairwise(accepted):
            moves = before.keys() == now.keys()
            if now.keys() - before.keys():
                yield "a skipped claim is admitted, for which the end state has room (4.9 b)"
            elif moves:
                yield "a claim comes to another contact in a pass that skips nobody (4.9 a)"
            elif moved_before:
                yield "a claim is skipped only because another came to another contact (4.9 a)"
            moved_before = moves
    for before, now in pairwise(world.rounds):
        for _ in now[-1].keys() - before[-1].keys():
            yield "a claim is accepted only when starting again (4.9 c)"


def _settled(world: World, results: Results) -> Iterator[str]:
    """Those whose contact has exactly what Salesforce gives, or that and more."""
    for key, (_, code, _) in results.items():
        mine = linked_contact(world, world.store, key)
        wanted = given(world, key)
        if code or not mine or not wanted or not wanted.items() <= mine.handles.items():
            continue
        if any(gives_up(world, key, mine, handle) for handle in mine.handles):
            yield "a linked contact only gives handles up"
            continue
        yield "a linked contact has its handles already"
        if mine.external_id != key:
            yield "somebody who has its handles already is linked through a merge"
        if any(other != key and given(world, other).keys() & wanted.keys() for other in results):
            yield "somebody wants a handle of one who has its handles already"


def _moves(world: World, after: list[Contact]) -> Iterator[str]:
    owner_now = {handle: contact.id for contact in after for handle in contact.handles}
    moves: set[tuple[int, int]] = set()
    for contact in world.store:
        for handle in contact.handles:
            now = owner_now.get(handle)
            if now is None:
                yield "a handle that is given up is free afterwards"
            elif now < 0:
                yield "a handle that is given up goes to a new contact"
            elif now != contact.id:
                yield "a handle goes from one contact to another"
                moves.add((contact.id, now))
    lengths, is_ring = _walks(moves)
    if any((to, start) in moves for start, to in moves):
        yield "two contacts swap handles"
    if is_ring:
        yield "three or more contacts pass handles round in a ring"
    if lengths >= 4:
        yield "handles move along a chain of four or more contacts"


def _walks(moves: set[tuple[int, int]]) -> tuple[int, bool]:
    """How many contacts the longest walk along the moves visits, and whether one of three or more comes back."""
    longest, is_ring = 0, False
    for start in {start for start, _ in moves}:
        walks = [[start]]
        while walks:
            walk = walks.pop()
            longest = max(longest, len(walk))
            for _, to in [move for move in moves if move[0] == walk[-1]]:
                is_ring |= to == start and len(walk) >= 3
                if to not in walk:
                    walks.append([*walk, to])
    return longest, is_ring


def _claims(world: World, results: Results, after: list[Contact]) -> Iterator[str]:
    owners = {handle: contact for contact in world.store for handle in contact.handles}
    claimed: dict[Handle, list[str]] = {}
    wanted: Counter[int] = Counter()
    created = {contact.external_id for contact in after if contact.id < 0}
    for key in world.source:
        handles = given(world, key)
        for handle, name in handles.items():
            claimed.setdefault(handle, []).append(str(world.source[key][name]))
        mine = linked_contact(world, world.store, key)
        others = {owners[h].id: owners[h] for h in handles if h in owners and owners[h] is not mine}
        if len(others) == 1 and not mine:
            (only,) = others.values()
            wanted[only.id] += only.external_id is None
            if only.external_id and only.external_id not in world.source:
                yield "the owner is linked to a contact that this run did not read"
        if len(others) > 1:
            yield "the handles belong to two or more contacts"
            if all(c.external_id is None and set(c.handles.values()) != {None} for c in others.values()):
                yield "the handles belong to several unlinked contacts, given by Salesforce"
        if any(holder in created for _, holder in results[key][2]):
            yield "a claim collides with a contact that this run creates"
        if len(handles) < len(_values(world, key)):
            yield "several fields give one handle"
        if len({(world.source[key][name], name) for name in handles.values()}) < len(handles):
            yield "one field feeds handles of two sources"
    for spellings in claimed.values():
        if len(spellings) > 1:
            yield "several source contacts claim one handle"
        if len(set(spellings)) > 1:
            yield "several source contacts claim one handle, spelled differently"
    if any(count > 1 for count in wanted.values()):
        yield "several source contacts want the same unlinked contact"
    if any(value.endswith(";ext=12") and (kind, value[:-7]) in claimed for kind, value in claimed):
        yield "phones differ only in their extension"


def _values(world: World, key: str) -> list[str]:
    """The mapped handle fields that hold something that can be read."""
    raw = world.source[key]
    return [
        name for name, kind in world.mapping if (raw[name] or "").strip() and not is_unread(world, key, (name, kind))
    ]


def _merges(world: World, results: Results) -> Iterator[str]:
    links = {contact.external_id for contact in world.store}
    winners: Counter[str] = Counter()
    for loser in world.merges:
        winner = end_of_chain(world.merges, loser)
        if winner is None:
            yield "merges lead round in a circle"
        elif winner in results and loser in links:
            winners[winner] += 1
            if winner in links:
                yield "the winner of a merge has a contact of its own"
            elif results[winner][1]:
                yield "the winner of a merge is skipped and the link stays"
            else:
                yield "a link moves to the winner of a merge"
                if world.merges[loser] != winner:
                    yield "a link moves along a chain of merges"
    if any(count > 1 and winner not in links for winner, count in winners.items()):
        yield "of several losers the one with the lowest id moves"


def _kept(world: World, results: Results, after: list[Contact]) -> Iterator[str]:
    """What became of the handles of contacts that were linked or updated."""
    before = {contact.id: contact for contact in world.store}
    for contact in after:
        key = contact.external_id or ""
        if contact.id not in before or results.get(key, ("error",))[0] not in {"linked", "updated", "unchanged"}:
            continue
        was = before[contact.id]
        is_same = contact.external_id == was.external_id and contact.handles.keys() == was.handles.keys()
        if is_same and contact.handles != was.handles:
            yield "only the remembered field changes"
        for handle in contact.handles.keys() & was.handles.keys():
            yield from _why_kept(world, key, handle, was.handles[handle], contact.handles[handle])


def _why_kept(world: World, key: str, handle: Handle, was: str | None, now: str | None) -> Iterator[str]:
    kinds = [kind for name, kind in world.mapping if name == was]
    if was is None:
        yield "what a person added stays" if now is None else "what a person added becomes Salesforce's"
    elif handle in given(world, key):
        return
    elif was in world.missing and handle[0] in kinds:
        yield "what a missing field gave stays"
    elif handle[0] in kinds:
        yield "what an unreadable field gave stays"
    else:
        yield (
            "what a field gave that now feeds something else stays"
            if kinds
            else "what a field gave that is mapped no more stays"
        )


def _values_and_accounts(world: World, results: Results, after: list[Contact]) -> Iterator[str]:
    """What became of the values and the account of contacts that were linked before."""
    now_linked = {contact.external_id: contact for contact in after}
    for key, (outcome, code, _) in results.items():
        was = linked_contact(world, world.store, key)
        if was is None:
            continue
        mirrored = replace(was, values=dict(was.values))
        mirror_values(world, key, mirrored)
        if code and mirrored != was:
            yield "a skipped contact keeps values that Salesforce no longer has"
        if code:
            continue
        now = now_linked[key]
        yield from _value_cases(world, key, was, now)
        yield from _account_cases(world, key, was, now)
        if outcome == "updated" and replace(was, values=now.values) == now:
            yield "a contact is updated in its values alone"
        if outcome == "updated" and replace(was, account=now.account, synced_account=now.synced_account) == now:
            is_seen = was.account != now.account
            yield f"a contact is updated in {'' if is_seen else 'what the sync remembers of '}its account alone"


def _value_cases(world: World, key: str, was: Contact, now: Contact) -> Iterator[str]:
    mapped: dict[str, list[str]] = {}
    for name, field in world.values:
        mapped.setdefault(field, []).append(name)
    if_none_were_missing = replace(was, values=dict(was.values))
    mirror_values(replace(world, missing=set()), key, if_none_were_missing)
    for field, names in mapped.items():
        raw = [world.source[key][name] for name in names]
        if world.missing.intersection(names):
            if field in was.values and was.values[field] != if_none_were_missing.values.get(field):
                links = "web links stay as a whole while one of their fields is missing"
                yield links if len(names) > 1 else "what a missing field gave a value stays"
        elif was.values.get(field) != now.values.get(field):
            yield "a value is mirrored" if any(raw) else "an empty value is mirrored"
            if len(names) > 1 and field in was.values and field in now.values:
                yield "web links of several fields are replaced as a whole"
        elif field != "url" and raw[0] and read_value(field, raw[0]) is None:
            is_stored = field in was.values
            yield f"a value that does not fit {'leaves what is stored' if is_stored else 'is left out where nothing is stored'}"
        if len(names) > 1 and raw[0] and raw[0] == raw[1] and not world.missing.intersection(names):
            yield "a web link that two fields give is kept once"
    yield from ("a value that is not mapped stays" for field in now.values if field not in mapped)


def _account_cases(world: World, key: str, was: Contact, now: Contact) -> Iterator[str]:
    is_linked = world.source[key].get("AccountId") in world.accounts
    by_person = was.account is not None and was.account != was.synced_account
    if is_linked and now.account != was.account:
        yield (
            "an account that a person set gives way to that of the AccountId"
            if by_person
            else "a contact goes to the account of its AccountId"
        )
    elif not is_linked and was.account is not None:
        yield "an account that a person set stays" if by_person else "an account that the sync set is taken back"
