"""Which of the mapped Salesforce fields exist for the connected user, under which name and of which type.

Salesforce leaves out of a describe what the user may not read, so a hidden field and a deleted one look the same
(rule 3.3). A path such as `Account.Owner.Name` is followed through the describes of its objects.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

from include.contact_sync.errors import RunError
from include.contact_sync.salesforce.faults import Refused
from include.contact_sync.salesforce.session import Session

COMPOUND_TYPES = {"address", "location"}
"""Types that hold several fields at once; a Bulk query refuses them, and no field of ours could take one."""


@dataclass(frozen=True)
class Field:
    """A field as Salesforce spells it, and its describe type."""

    path: str
    type: str


@dataclass(frozen=True)
class Resolved:
    """The mapped fields, by the name they have in the mapping: those that exist, and the names of those that do not."""

    fields: Mapping[str, Field]
    missing: Sequence[str]

    def without(self, name: str) -> "Resolved":
        """The same without the fields that have such a step in their path; they count as missing."""
        gone = [each for each, field in self.fields.items() if name.lower() in field.path.lower().split(".")]
        kept = {each: field for each, field in self.fields.items() if each not in gone}
        return Resolved(kept, [*self.missing, *gone])


def describe(session: Session, sobject: str) -> list[Mapping[str, Any]]:
    """Every field of an object that the connected user may read."""
    return list(session.get(f"sobjects/{sobject}/describe")["fields"])


def resolve_fields(session: Session, sobject: str, names: Iterable[str], needed: Iterable[str] = ()) -> Resolved:
    """Look up mapped fields. The sync cannot do without `needed`, mapped or not.

    Raises:
        RunError: `settings_invalid` where the object itself or a needed field is hidden.
    """
    own = _readable_fields(session, sobject)
    if own is None:
        raise RunError("settings_invalid", f"{sobject} cannot be read by the connected user")
    hidden = set(needed) - {field["name"] for field in own}
    if hidden:
        raise RunError("settings_invalid", f"{sobject}: the connected user may not read {', '.join(sorted(hidden))}")

    @cache
    def fields_of(related: str) -> Sequence[Mapping[str, Any]]:
        return own if related == sobject else _readable_fields(session, related) or []

    fields: dict[str, Field] = {}
    missing = []
    for name in dict.fromkeys(names):
        field = _follow(name.split("."), sobject, fields_of)
        if field is None:
            missing.append(name)
        else:
            fields[name] = field
    return Resolved(fields, missing)


def _readable_fields(session: Session, sobject: str) -> Sequence[Mapping[str, Any]] | None:
    """The fields of an object; None where the connected user may not read the object at all."""
    try:
        return describe(session, sobject)
    except Refused as refused:
        if refused.refusal.status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
            return None
        raise


def _follow(
    steps: Sequence[str], sobject: str, fields_of: Callable[[str], Sequence[Mapping[str, Any]]]
) -> Field | None:
    first, *rest = steps
    key = "relationshipName" if rest else "name"
    found = next((one for one in fields_of(sobject) if (one.get(key) or "").lower() == first.lower()), None)
    if found is None:
        return None
    if not rest:
        return Field(found["name"], found["type"])
    target = _follow(rest, found["referenceTo"][0], fields_of) if found.get("referenceTo") else None
    return target and Field(f"{found['relationshipName']}.{target.path}", target.type)


def unusable_fields(sobject: str, resolved: Resolved) -> list[RunError]:
    """What forbids to map fields that exist: a record's own Id (rule 3.2), or several fields in one."""
    ids = [name for name, field in resolved.fields.items() if field.type == "id"]
    compound = [
        f"{name} is of type {field.type}" for name, field in resolved.fields.items() if field.type in COMPOUND_TYPES
    ]
    return [
        *(RunError("contact_id_mapped", f"{sobject}: {name}") for name in ids),
        *(RunError("settings_invalid", f"{sobject}: {one}; map its parts, such as MailingCity") for one in compound),
    ]
