"""Section 4 of the rules, and 5, as plain Python over dictionaries: no joins, no SQL, written from the rules alone.

A world is a store, what Salesforce holds, and the mapping; `sync` says what becomes of every source contact, and of
the store. It is as naive as can be; the product must agree with it on every world. How a value is read is in `reading`.
"""

from dataclasses import dataclass, field, replace

from tests.contact_sync.reading import is_nonsense, read, read_value

Handle = tuple[str, str]
Accepted = dict[str, int]
"""The contact that each accepted claim fills; the number of a new one is negative."""
SOURCES = ["email", "phone", "twitter", "facebook", "custom", "domain"]
CODES = {"email": "email_taken", "phone": "phone_taken", "domain": "domain_taken"}


@dataclass
class Contact:
    """A contact of the store. `handles`: the Salesforce field that gave each one, None where a person added it."""

    id: int
    external_id: str | None = None
    handles: dict[Handle, str | None] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    account: int | None = None
    synced_account: int | None = None


@dataclass
class World:
    """`source`: per Salesforce id the raw value of each field. `mapping` feeds handle sources, `values` other fields.

    A world of accounts is one whose records need no handle (rule 5). `accounts`: the linked ones, by Salesforce id.
    `rounds` tells how rule 4.9 went: for each round what was accepted before each pass and after each admission.
    """

    store: list[Contact]
    source: dict[str, dict[str, str | None]]
    mapping: list[tuple[str, str]]
    missing: set[str] = field(default_factory=set)
    merges: dict[str, str] = field(default_factory=dict)
    needs_handle: bool = True
    values: list[tuple[str, str]] = field(default_factory=list)
    accounts: dict[str, int] = field(default_factory=dict)
    rounds: list[list[Accepted]] = field(default_factory=list, compare=False, repr=False)


def given(world: World, key: str) -> dict[Handle, str]:
    """The handles Salesforce gives now, in the order of 4.2, each with the first field that gives it (4.10)."""
    handles: dict[Handle, str] = {}
    for source in SOURCES:
        for name, fed in world.mapping:
            if fed == source and name not in world.missing and (value := read(source, world.source[key].get(name))):
                handles.setdefault((source, value), name)
    return handles


def is_unread(world: World, key: str, giver: tuple[str | None, str]) -> bool:
    """Whether a mapped field gives nothing now, being missing (3.3) or holding nonsense (3.6); what it gave stays."""
    name, source = giver
    raw = world.source[key].get(name or "")
    return giver in world.mapping and (name in world.missing or is_nonsense(source, raw))


def gives_up(world: World, key: str, contact: Contact, handle: Handle) -> bool:
    """4.10: what a mapped field gave is replaced by what it gives now; everything else is kept."""
    giver = (contact.handles[handle], handle[0])
    return giver in world.mapping and not is_unread(world, key, giver) and handle not in given(world, key)


def fill(world: World, key: str, contact: Contact) -> None:
    """Update and link (4.1, 4.2)."""
    handles, order = given(world, key), world.mapping.index
    for handle, name in contact.handles.items():
        giver = (name, handle[0])
        if handle not in handles:
            stays = not gives_up(world, key, contact, handle)
        else:  # of several fields that give it the first is remembered (4.10)
            stays = is_unread(world, key, giver) and order(giver) < order((handles[handle], handle[0]))
        if stays:
            handles[handle] = name
    contact.external_id, contact.handles = key, handles
    mirror_values(world, key, contact)
    choose_account(world, key, contact)


def mirror_values(world: World, key: str, contact: Contact) -> None:
    """3.3 to 3.5, and 4.10: mapped fields mirror Salesforce; what is missing or does not fit leaves what is stored."""
    for target in {target for _, target in world.values}:
        fields = [name for name, its_target in world.values if its_target == target]
        raw = [world.source[key].get(name) for name in fields]
        if world.missing.intersection(fields):
            continue
        if not any(raw):
            contact.values.pop(target, None)
        elif target == "url":
            contact.values[target] = list(dict.fromkeys(link for link in raw if link))
        elif (value := read_value(target, raw[0])) is not None:
            contact.values[target] = value


def choose_account(world: World, key: str, contact: Contact) -> None:
    """5, last sentence: the linked account; else the one that a person set, but none that the sync set."""
    linked = world.accounts.get(world.source[key].get("AccountId") or "")
    by_person = contact.account if contact.account != contact.synced_account else None
    contact.account, contact.synced_account = linked or by_person, linked


def linked_contact(world: World, store: list[Contact], key: str) -> Contact | None:
    """4.1, and 4.11: the link of a merged contact moves to the winner that has none."""
    by_link = {contact.external_id: contact for contact in store if contact.external_id}
    gone = sorted(each for each in world.merges if each not in world.source and end_of_chain(world.merges, each) == key)
    return next((by_link[each] for each in [key, *gone] if each in by_link), None)


def end_of_chain(merges: dict[str, str], loser: str) -> str | None:
    """Who a merged contact is now; None where merges lead round in a circle."""
    for _ in merges:
        loser = merges.get(loser, loser)
    return None if loser in merges else loser


def has_handle(world: World, key: str, contact: Contact | None) -> bool:
    """4.3 and 4.4; an account needs none (5)."""
    if not world.needs_handle or given(world, key):
        return True
    stored = contact.handles.items() if contact else []
    return any(is_unread(world, key, (name, h[0])) for h, name in stored) or bool(contact and not world.mapping)


def new_number(world: World, key: str) -> int:
    """The number of the contact that is created for a claim."""
    return -1 - sorted(world.source).index(key)


def place(world: World, store: list[Contact], key: str) -> tuple[bool, int, list[tuple[Handle, Contact]]]:
    """4.2: whether `store`, as it is, has room for the claim, the contact that it would fill, and what collides."""
    mine = linked_contact(world, store, key)
    collisions = [(h, c) for h in given(world, key) for c in store if h in c.handles and c is not mine]
    owners = {contact.id: contact for _, contact in collisions}
    if not mine and [contact.external_id for contact in owners.values()] == [None]:
        return True, collisions[0][1].id, collisions
    return not collisions, mine.id if mine else new_number(world, key), collisions


def apply(world: World, store: list[Contact], accepted: Accepted) -> list[Contact]:
    """The end state: every accepted claim fills its contact."""
    end = {contact.id: replace(contact, values=dict(contact.values)) for contact in store}
    for key, number in accepted.items():
        fill(world, key, end.setdefault(number, Contact(number)))
    return list(end.values())


def judge(world: World, store: list[Contact], claims: list[str], accepted: Accepted, key: str) -> int | None:
    """4.9 a, for one claim: the contact that it fills, or None where it is skipped."""
    wanted, mine = given(world, key), linked_contact(world, store, key)
    before = [other for other in claims[: claims.index(key)] if other in accepted]
    filler = {number: other for other, number in reversed(accepted.items())}  # the first who fills it
    if any(given(world, other).keys() & wanted.keys() for other in before):
        return None

    def keeps(contact: Contact, handle: Handle) -> bool:
        other = filler.get(contact.id, key)
        return other == key or not gives_up(world, other, contact, handle)

    holders = [c for c in store if c is not mine and any(h in c.handles and keeps(c, h) for h in wanted)]
    if mine or not holders:
        return None if holders else mine.id if mine else new_number(world, key)
    is_free = len(holders) == 1 and not holders[0].external_id and filler.get(holders[0].id) not in before
    return holders[0].id if is_free else None


def accept(world: World, store: list[Contact], claims: list[str]) -> Accepted:
    """4.9 a: repeat until a whole pass neither skips anybody nor moves anybody to another contact.

    This ends: who fills a contact stays or is skipped, and only makes way for a claim that comes before it.
    """
    before, accepted = {}, {key: place(world, store, key)[1] for key in claims}
    while accepted != before:
        before = dict(accepted)
        world.rounds[-1].append(before)
        for key in before:
            if (number := judge(world, store, claims, accepted, key)) is None:
                del accepted[key]
            else:
                accepted[key] = number
    return accepted


def admit(world: World, store: list[Contact], claims: list[str], accepted: Accepted) -> list[Contact]:
    """4.9 b; returns the end state."""
    while True:
        end = apply(world, store, accepted)
        skipped = [(key, *place(world, end, key)) for key in claims if key not in accepted]
        admitted = next(((key, number) for key, has_room, number, _ in skipped if has_room), None)
        if admitted is None:
            return end
        accepted |= [admitted]
        world.rounds[-1].append(dict(accepted))


def sync(world: World) -> tuple[dict[str, tuple], list[Contact]]:
    """(Outcome, code, holders) of every source contact, and the store afterwards.

    Outcome is created, linked, updated, unchanged or error; holders are (handle, Salesforce id or None).
    """
    store, world.rounds[:] = world.store, []
    claims = [key for key in world.source if has_handle(world, key, linked_contact(world, store, key))]
    while True:  # 4.9 c
        claims.sort(key=lambda key: (linked_contact(world, store, key) is None, key))  # 4.8
        world.rounds.append([])
        accepted = accept(world, store, claims)
        end = admit(world, store, claims, accepted)
        if end == store:
            return {key: answer(world, end, key, key in claims, key in accepted) for key in world.source}, end
        store = end


def answer(world: World, end: list[Contact], key: str, is_claim: bool, is_accepted: bool) -> tuple:
    """What the run did with a source contact, told from the store before and after (4.4, 4.13)."""
    if not is_claim:
        return "error", "no_handle", []
    if not is_accepted:
        collisions = place(world, end, key)[2]
        return "error", CODES.get(collisions[0][0][0], "handle_taken"), [(h, c.external_id) for h, c in collisions]
    now = next(contact for contact in end if contact.external_id == key)
    if linked_contact(world, world.store, key) is None:
        return "created" if now.id < 0 else "linked", None, []
    return "unchanged" if now in world.store else "updated", None, []
