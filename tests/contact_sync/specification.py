"""Section 4 of the rules as plain Python over dictionaries: no joins, no SQL, written from the rules alone.

A world is a store, what Salesforce holds, and the mapping. `sync` changes the store as the rules say and returns
the outcome of every source contact. The product must agree with it on every world.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

Handle = tuple[str, str]
SOURCES = ["email", "phone", "twitter", "facebook", "custom", "domain"]
CODES = {"email": "email_taken", "phone": "phone_taken", "domain": "domain_taken"}


@dataclass
class Contact:
    """A contact of the store. `handles`: the Salesforce field that gave each one, None where a person added it."""

    id: int
    external_id: str | None = None
    handles: dict[Handle, str | None] = field(default_factory=dict)


@dataclass
class World:
    """`mapping`: (Salesforce field, handle source), in order. `source`: per Salesforce id, the raw value of each field.

    A world of accounts is one whose records need no handle (rule 5). `met`: which turns of rule 4.9 were taken.
    """

    store: list[Contact]
    source: dict[str, dict[str, str | None]]
    mapping: list[tuple[str, str]]
    missing: set[str] = field(default_factory=set)
    merges: dict[str, str] = field(default_factory=dict)
    needs_handle: bool = True
    met: Counter[str] = field(default_factory=Counter, compare=False, repr=False)


def read(kind: str, raw: str) -> str | None:
    """Rule 3.6, for the values that worlds are made of; None where the value cannot be read."""
    text = raw.strip()
    if kind == "email":
        return text.lower() if re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text) else None
    if kind == "phone":
        found = re.fullmatch(r"(?:\+1 )?\(?(\d{3})\)?[-. ](\d{3})[-. ](\d{4})(?: x(\d+))?", text)
        return found and "+1" + "".join(found.groups()[:3]) + (f";ext={found[4]}" if found[4] else "")
    if kind == "twitter":
        return text.removeprefix("@").lower() or None
    if kind == "domain":
        host = text.lower().removeprefix("https://").removeprefix("www.").partition("/")[0]
        return host if re.fullmatch(r"[^\s.]+(\.[^\s.]+)+", host) else None
    return text


def given(world: World, salesforce_id: str) -> dict[Handle, str]:
    """The handles Salesforce gives now, each with the first field of the mapping that gives it (rule 4.10)."""
    handles: dict[Handle, str] = {}
    for kind in SOURCES:
        for name, its_kind in world.mapping:
            raw = world.source[salesforce_id].get(name)
            value = read(kind, raw) if its_kind == kind and name not in world.missing and raw and raw.strip() else None
            if value:
                handles.setdefault((kind, value), name)
    return handles


def cannot_be_read(world: World, salesforce_id: str, name: str, kind: str) -> bool:
    """Whether the field's handles stay because it is missing (rule 3.3) or holds nonsense now (rule 3.6)."""
    raw = world.source[salesforce_id].get(name)
    return name in world.missing or bool(raw and raw.strip() and read(kind, raw) is None)


def gives_up(world: World, salesforce_id: str, contact: Contact, handle: Handle) -> bool:
    """Rule 4.10: what a mapped field gave is replaced by what it gives now; everything else is kept."""
    name, kind = contact.handles[handle], handle[0]
    mapped = (name, kind) in world.mapping
    return mapped and not cannot_be_read(world, salesforce_id, name, kind) and handle not in given(world, salesforce_id)


def fill(world: World, salesforce_id: str, contact: Contact) -> None:
    """Update and link (rules 4.1, 4.2 and 4.10)."""
    order = world.mapping.index
    kept = {h: name for h, name in contact.handles.items() if not gives_up(world, salesforce_id, contact, h)}
    now = given(world, salesforce_id)
    for handle, name in kept.items():
        giver = (name, handle[0])
        still = giver in world.mapping and cannot_be_read(world, salesforce_id, *giver)
        if handle not in now or (still and order(giver) < order((now[handle], handle[0]))):
            now[handle] = name
    contact.external_id, contact.handles = salesforce_id, now


def has_handle(world: World, salesforce_id: str, contact: Contact | None) -> bool:
    """Rules 4.3 and 4.4."""
    if not world.needs_handle:
        return True
    if not world.mapping:
        return contact is not None
    kept = contact is not None and any(
        name and (name, h[0]) in world.mapping and cannot_be_read(world, salesforce_id, name, h[0])
        for h, name in contact.handles.items()
    )
    return bool(given(world, salesforce_id)) or kept


def linked_contact(world: World, store: list[Contact], salesforce_id: str) -> Contact | None:
    """Rule 4.1, and rule 4.11: the link of a merged contact moves to the winner that has none."""
    by_link = {c.external_id: c for c in store if c.external_id}
    if salesforce_id in by_link:
        return by_link[salesforce_id]
    losers = [loser for loser in sorted(world.merges) if end_of_chain(world.merges, loser) == salesforce_id]
    return next((by_link[loser] for loser in losers if loser in by_link and loser not in world.source), None)


def end_of_chain(merges: dict[str, str], loser: str) -> str | None:
    seen = set()
    while loser in merges and loser not in seen:
        seen.add(loser)
        loser = merges[loser]
    return None if loser in seen else loser


def copy(store: list[Contact]) -> list[Contact]:
    return [Contact(c.id, c.external_id, dict(c.handles)) for c in store]


def place(
    world: World, store: list[Contact], salesforce_id: str
) -> tuple[bool, Contact | None, list[tuple[Handle, Contact]]]:
    """Whether `store`, as it is, has room for the claim, which contact it fills, and what collides (rule 4.2)."""
    mine = linked_contact(world, store, salesforce_id)
    owned = [(h, c) for h in given(world, salesforce_id) for c in store if h in c.handles and c is not mine]
    owners = {c.id: c for _, c in owned}
    if mine or not owners:
        return not owners, mine, owned
    only = next(iter(owners.values()))
    return len(owners) == 1 and only.external_id is None, only, owned


def apply(world: World, store: list[Contact], accepted: dict[str, int | None]) -> list[Contact]:
    """The end state: every accepted claim fills its contact, or a new one (whose id is negative)."""
    end = copy(store)
    for salesforce_id, contact_id in accepted.items():
        contact = next((c for c in end if c.id == contact_id), None)
        if contact is None:
            contact = Contact(-1 - sorted(world.source).index(salesforce_id))
            end.append(contact)
        fill(world, salesforce_id, contact)
    return end


def settle_round(world: World, store: list[Contact], claims: list[str]) -> dict[str, int | None]:
    """Rule 4.9, steps a and b, on one store."""
    accepted: dict[str, int | None] = {}
    for claim in claims:
        mine = linked_contact(world, store, claim)
        owners = {c.id: c for h in given(world, claim) for c in store if h in c.handles}
        alone = next(iter(owners.values())) if len(owners) == 1 else None
        accepted[claim] = mine.id if mine else alone.id if alone and alone.external_id is None else None
    for _ in range(2 * len(claims) + 3):
        before = dict(accepted)
        for claim in [c for c in claims if c in accepted]:
            verdict = judge(world, store, claims, accepted, claim)
            if verdict is SKIP:
                del accepted[claim]
            else:
                accepted[claim] = verdict
        if accepted == before:
            break
    waiting = [claim for claim in claims if claim not in accepted]
    while True:
        end = apply(world, store, accepted)
        admitted = next((claim for claim in waiting if place(world, end, claim)[0]), None)
        if admitted is None:
            return accepted
        contact = place(world, end, admitted)[1]
        accepted[admitted] = contact.id if contact else None
        world.met["a skipped claim is admitted, for which the end state has room (4.9 b)"] += 1
        waiting.remove(admitted)


SKIP = object()


def judge(world: World, store: list[Contact], claims: list[str], accepted: dict, claim: str) -> object:
    """Step a for one claim: SKIP, or the id of the contact it fills (None: a new one)."""
    mine = linked_contact(world, store, claim)
    earlier = claims[: claims.index(claim)]
    if any(other in accepted and given(world, other).keys() & given(world, claim).keys() for other in earlier):
        return SKIP
    holders = []
    for contact in store:
        for handle in given(world, claim).keys() & contact.handles.keys():
            filler = next((c for c in claims if c in accepted and accepted[c] == contact.id), None)
            given_up = filler not in (None, claim) and gives_up(world, filler, contact, handle)
            if contact is not mine and not given_up and contact not in holders:
                holders.append(contact)
    if mine or not holders:
        return SKIP if holders else mine.id if mine else None
    first = next((c for c in claims if c in accepted and accepted[c] == holders[0].id), claim)
    if len(holders) > 1 or holders[0].external_id or claims.index(first) < claims.index(claim):
        return SKIP
    return holders[0].id


def sync(world: World) -> tuple[dict[str, tuple], list[Contact]]:
    """Run the rules: (outcome, code, holders) of every source contact, and the store afterwards.

    Outcome is created, linked, updated, unchanged or error; holders are (handle, Salesforce id or None).
    """
    store = copy(world.store)
    results: dict[str, tuple] = {}
    for claim in world.source:
        if not has_handle(world, claim, linked_contact(world, store, claim)):
            results[claim] = ("error", "no_handle", [])
    claims = [claim for claim in world.source if claim not in results]
    first_round = True
    while True:
        claims.sort(key=lambda claim: (linked_contact(world, store, claim) is None, claim))
        accepted = settle_round(world, store, claims)
        for claim in accepted.keys() - results.keys():
            if not first_round:
                world.met["a claim is accepted only when starting again (4.9 c)"] += 1
            results[claim] = (outcome_of(world, claim, accepted[claim]), None, [])
        end = apply(world, store, accepted)
        if end == store:
            break
        store, first_round = end, False
    for claim in claims:
        if claim not in results:
            collisions = place(world, store, claim)[2]
            code = CODES.get(collisions[0][0][0], "handle_taken")
            results[claim] = ("error", code, [(h, c.external_id) for h, c in collisions])
    return results, store


def outcome_of(world: World, claim: str, contact_id: int | None) -> str:
    """What an accepted claim does to the contact it fills."""
    if linked_contact(world, world.store, claim) is None:
        return "created" if contact_id is None else "linked"
    was = next(contact for contact in world.store if contact.id == contact_id)
    (now,) = apply(world, [was], {claim: contact_id})
    return "unchanged" if now == was else "updated"
