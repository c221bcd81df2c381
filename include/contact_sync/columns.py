"""What one part of a sync (accounts or contacts) reads and fills: the mapping, resolved against Salesforce's fields.

Transform, match and load get a `Columns` and need neither the settings nor a description of Salesforce.
A handle of an account is its domain; everything else about handles holds for both parts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from include.contact_sync.settings import HANDLE_SOURCES, CustomField, CustomFieldType, Settings


class Part(StrEnum):
    """The two parts of a run, each applied in one transaction (rule 6.1)."""

    ACCOUNTS = "accounts"
    CONTACTS = "contacts"


SOURCE_ORDER = (*HANDLE_SOURCES.values(), "domain")
"""The order in which handles are looked up, and in which a collision names the error's code (rules 4.2 and 4.13)."""

TAKEN_CODES = {"email": "email_taken", "phone": "phone_taken", "domain": "domain_taken"}
"""The code of a collision by handle source; every other source is `handle_taken`."""


@dataclass(frozen=True)
class HandleColumn:
    """A Salesforce field that gives handles. `missing`: it does not exist now, what it gave earlier stays (rule 3.3)."""

    salesforce_field: str
    source: str
    type: str = "string"
    missing: bool = False


@dataclass(frozen=True)
class ValueColumn:
    """A field of ours and the Salesforce fields that fill it: one, or for `links` several."""

    name: str
    salesforce_fields: tuple[str, ...]
    types: tuple[str, ...]
    custom_type: CustomFieldType | None = None
    allowed: tuple[str, ...] = ()

    @property
    def custom_field(self) -> str | None:
        """The key in `custom_fields` where this column fills one."""
        return self.name.removeprefix("custom_fields.") if self.custom_type else None


@dataclass(frozen=True)
class Columns:
    """Everything that is mapped for one part. `fields` holds only columns whose Salesforce fields exist."""

    part: Part
    handles: tuple[HandleColumn, ...]
    fields: tuple[ValueColumn, ...]
    missing_fields: tuple[str, ...] = ()
    default_region: str = "US"

    @property
    def handle_is_needed(self) -> bool:
        """A contact without a handle is an error (rule 4.4); an account without a domain can be created (rule 5)."""
        return self.part is Part.CONTACTS

    @property
    def custom(self) -> tuple[ValueColumn, ...]:
        return tuple(column for column in self.fields if column.custom_type)

    @property
    def plain(self) -> tuple[ValueColumn, ...]:
        return tuple(column for column in self.fields if not column.custom_type)


def resolve_columns(part: Part, settings: Settings, types: Mapping[str, str], missing: Collection[str]) -> Columns:
    """The mapping of `part` with the describe type of each Salesforce field.

    Args:
        types: describe type by Salesforce field, for the fields that exist.
        missing: mapped Salesforce fields that do not exist or are hidden (rule 3.3).
    """
    chosen = settings.accounts if part is Part.ACCOUNTS else settings.contacts
    sources = {"domain": "domain"} if part is Part.ACCOUNTS else HANDLE_SOURCES
    handles = tuple(
        HandleColumn(
            line.salesforce_field,
            sources[line.field],
            types.get(line.salesforce_field, "string"),
            line.salesforce_field in missing,
        )
        for line in chosen.mapping
        if line.field in sources
    )
    feeds: dict[str, list[str]] = {}
    for line in chosen.mapping:
        if line.field not in sources:
            feeds.setdefault("links" if line.field == "url" else line.field, []).append(line.salesforce_field)
    fields = tuple(
        _value_column(name, feeding, types, chosen.custom_fields)
        for name, feeding in feeds.items()
        if not any(field in missing for field in feeding)
    )
    return Columns(part, handles, fields, tuple(sorted(missing)), settings.default_region)


def _value_column(
    name: str, fields: list[str], types: Mapping[str, str], custom_fields: Mapping[str, CustomField]
) -> ValueColumn:
    declared = custom_fields[name.removeprefix("custom_fields.")] if name.startswith("custom_fields.") else None
    return ValueColumn(
        name,
        tuple(fields),
        tuple(types.get(field_, "string") for field_ in fields),
        declared.type if declared else None,
        declared.values if declared else (),
    )
