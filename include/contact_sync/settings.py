"""The sync settings: one frozen, strict model in which every fault is found at once.

What the settings mean is in the rules; where they are kept, with their versions, is `store.settings_versions`.
Whether Salesforce agrees (login, list view, fields) is `salesforce.check`. A fault names its place, never a value that
may be personal data.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import Annotated, Any, Literal, LiteralString, NoReturn, Self

import phonenumbers
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from include.contact_sync.errors import RunError

MAXIMUM_CONTACTS = 1_000_000
"""At most this many source contacts per run (rule 1.5); the setting can only lower it."""

HANDLE_SOURCES = {
    "email": "email",
    "phone": "phone",
    "twitter": "twitter",
    "facebook": "facebook",
    "custom_handle": "custom",
}
"""Contact field → handle source, in the order in which handles are looked up (rule 4.2)."""

_FIELDS = {
    "contacts": {"name", "description", "url", *HANDLE_SOURCES},
    "accounts": {"name", "domain", "description", "logo_url"},
}
_FED_BY_MANY = {"contacts": {"url", *HANDLE_SOURCES}, "accounts": {"domain"}}
_CUSTOM_PREFIX = "custom_fields."

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


# --- texts and their forms ---------------------------------------------------------------------------------------


def _text_like(pattern: str, otherwise: LiteralString, longest: int = 255) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text) > longest or not re.fullmatch(pattern, text):
            raise PydanticCustomError("wrong_form", otherwise)
        return text

    return check


def _refuse_the_id(salesforce_field: str) -> str:
    """Rule 3.2; `Account.Id` and the like are ids, too."""
    if salesforce_field.rpartition(".")[2].lower() == "id":
        raise PydanticCustomError("contact_id_mapped", "the Id is synced by itself and cannot be mapped")
    return salesforce_field


def _refuse_unknown_region(region: str) -> str:
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise PydanticCustomError(
            "region", "is not a region with a numbering plan (use two capital letters such as US or DE)"
        )
    return region


_NO_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
"""Control characters, line ends and halves of characters: the store, YAML or a mail's head cannot hold them."""

Text = Annotated[str, AfterValidator(_text_like(rf"[^{_NO_CONTROLS}]+", "must be one line of 1 to 255 characters"))]
ListViewId = Annotated[
    str,
    AfterValidator(
        _text_like(
            r"00B[0-9A-Za-z]{12}(?:[0-9A-Za-z]{3})?",
            "must be the id of a list view: 15 or 18 letters and digits that begin with 00B",
        )
    ),
]
SalesforceField = Annotated[
    str,
    AfterValidator(
        _text_like(
            r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*){0,5}",
            "must be the API name of a Salesforce field, such as Email, Region__c or Account.Name",
        )
    ),
    AfterValidator(_refuse_the_id),
]
CustomFieldName = Annotated[
    str,
    AfterValidator(
        _text_like(
            rf"[^\s.{_NO_CONTROLS}][^.{_NO_CONTROLS}]*",
            "must be a name without dots, at most 100 characters",
            longest=100,
        )
    ),
]
EmailAddress = Annotated[
    str,
    AfterValidator(
        _text_like(rf'[^@\s,;<>"{_NO_CONTROLS}]+@[^@\s,;<>"{_NO_CONTROLS}]+', "must be an e-mail address", longest=254)
    ),
]


# --- the model ---------------------------------------------------------------------------------------------------


class CustomFieldType(StrEnum):
    """The types a custom field can be declared with (rule 3.1)."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    ENUM = "enum"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CustomField(_Strict):
    """A declared custom field. `values` are an enum's allowed values, and only an enum has them."""

    type: Annotated[CustomFieldType, Field(strict=False)]
    values: tuple[Text, ...] = Field(default=(), strict=False)


class ListViewSource(_Strict):
    """Only what a Salesforce list view shows; an id of 15 or 18 characters."""

    list_view: ListViewId


class FieldMapping(_Strict):
    """One entry of a mapping: a Salesforce field (or parent path such as `Account.Name`) feeds a field of ours."""

    salesforce_field: SalesforceField
    field: str

    @property
    def custom_field(self) -> str | None:
        """The custom field's name where this mapping feeds one."""
        return self.field.removeprefix(_CUSTOM_PREFIX) if self.field.startswith(_CUSTOM_PREFIX) else None


# Without a discriminator a wrong source would be reported once for every form that it does not have.
_NAMED, _LIST_VIEW = "a named source", "a list view source"
_KindOfSource = Discriminator(lambda source: _LIST_VIEW if isinstance(source, Mapping | ListViewSource) else _NAMED)
_ListView = Annotated[ListViewSource, Tag(_LIST_VIEW)]


class _Part(_Strict):
    enabled: bool = True
    custom_fields: dict[CustomFieldName, CustomField] = Field(default_factory=dict)
    mapping: tuple[FieldMapping, ...] = Field(strict=False)


class AccountsSettings(_Part):
    """Which accounts sync, and how."""

    source: Annotated[Annotated[Literal["all_accounts"], Tag(_NAMED)] | _ListView, _KindOfSource] = "all_accounts"


class ContactsSettings(_Part):
    """Which contacts sync, and how."""

    source: Annotated[Annotated[Literal["synced_accounts"], Tag(_NAMED)] | _ListView, _KindOfSource] = "synced_accounts"


class Settings(_Strict):
    """Everything an administrator chooses.

    `people` gives the e-mail address of a person who triggers runs, by the name that Airflow knows;
    `owners` are told about scheduled and backfill runs.
    """

    accounts: AccountsSettings
    contacts: ContactsSettings
    default_region: Annotated[str, AfterValidator(_refuse_unknown_region)] = "US"
    maximum_contacts: int = Field(default=MAXIMUM_CONTACTS, ge=1, le=MAXIMUM_CONTACTS)
    owners: tuple[EmailAddress, ...] = Field(strict=False)
    people: dict[Text, EmailAddress] = Field(default_factory=dict)
    staged_data_days: int = Field(default=7, ge=0, le=365)

    @model_validator(mode="wrap")
    @classmethod
    def _find_every_fault(cls, values: object, check_each_field: ModelWrapValidatorHandler[Self]) -> Self:
        """Also look at how fields fit together; pydantic would not where a single field is already wrong."""
        try:
            settings = check_each_field(values)
        except ValidationError as invalid:
            _refuse([*_faults_of_fields(invalid), *_faults_between_fields(values)])
        faults = list(_faults_between_fields(settings.as_json))
        if faults:
            _refuse(faults)
        return settings

    @property
    def as_json(self) -> dict[str, Any]:
        """The settings as they are stored: JSON types only."""
        return self.model_dump(mode="json")

    def recipients(self, triggered_by: str | None, notify: str | None = None) -> list[str]:
        """Whom a run's e-mail goes to (rule 8.1): the person who triggered it, else the owners; and an extra address."""
        person = self.people.get(triggered_by or "") or (
            triggered_by if triggered_by and _EMAIL.fullmatch(triggered_by) else None
        )
        addresses = [person] if person else list(self.owners)
        return list(dict.fromkeys([*addresses, *([notify] if notify else [])]))


# --- reading and writing -----------------------------------------------------------------------------------------


def parse_settings(values: object) -> Settings:
    """Check settings as they come from JSON or the store.

    Raises:
        RunError: `contact_id_mapped` where that is the only kind of fault, else `settings_invalid`; the detail
            lists every fault with its place.
    """
    return _parse(values, [])


def read_settings(text: str) -> Settings:
    """Check settings written as YAML. Raises as `parse_settings`, also for text that is not YAML and for repeated keys."""
    return _parse(*_load_yaml(text))


def to_yaml(settings: Settings) -> str:
    """Write settings so that `read_settings` reads the same."""
    return yaml.safe_dump(settings.as_json, sort_keys=False, allow_unicode=True, width=120)


def describe_faults(invalid: ValidationError) -> Sequence[str]:
    """Every fault as `place: what is wrong`, without the values (they may be personal data)."""
    return [
        f"{_describe_place(fault['loc'])}: {fault['msg']}"
        for fault in invalid.errors(include_url=False, include_context=False, include_input=False)
    ]


def _parse(values: object, repeated_keys: list[str]) -> Settings:
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        only_ids = not repeated_keys and all(fault["type"] == "contact_id_mapped" for fault in invalid.errors())
        detail = "; ".join([*repeated_keys, *describe_faults(invalid)])
        raise RunError("contact_id_mapped" if only_ids else "settings_invalid", detail) from None
    if repeated_keys:
        raise RunError("settings_invalid", "; ".join(repeated_keys))
    return settings


class _Loader(yaml.SafeLoader):
    """Notices repeated keys, of which YAML would keep the last, and takes only true and false for truth values.

    YAML 1.1 would read the region NO (Norway) or an enum's value `on` as one, too.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated_keys: list[tuple[int, str]] = []

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                self.repeated_keys.append((key.start_mark.line + 1, name))
            seen.add(name)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _load_yaml(text: str) -> tuple[object, list[str]]:
    try:
        loader = _Loader(text)
        values = loader.get_single_data()
    except yaml.MarkedYAMLError as invalid:
        # Its own text would quote the line at fault, which may hold an address.
        line = f" in line {invalid.problem_mark.line + 1}" if invalid.problem_mark else ""
        raise RunError("settings_invalid", f"not YAML: {invalid.problem}{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as invalid:
        # PyYAML lets through what int() and date() say, and Python's limit on nested lists.
        raise RunError("settings_invalid", f"not YAML: {type(invalid).__name__}") from None
    return values, [f"line {line}: the key {name!r} is there twice" for line, name in sorted(loader.repeated_keys)]


# --- faults ------------------------------------------------------------------------------------------------------

Place = tuple[int | str, ...]

_KEY = "[key]"
"""What pydantic adds to the place of a mapping whose key is at fault."""

_SAID_AS = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting",
    "string_type": "must be a text (put it in quotes)",
    "string_unicode": "must be a text of whole characters",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}, or a list view given as list_view: <id>",
    "enum": "must be one of {expected}",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
}


def _faults_of_fields(invalid: ValidationError) -> Iterator[InitErrorDetails]:
    for fault in invalid.errors(include_url=False, include_input=False):
        said_as = _SAID_AS.get(fault["type"])
        message = said_as.format_map(fault.get("ctx", {})) if said_as else fault["msg"]
        yield _fault(fault["loc"], message, fault["type"])


def _faults_between_fields(values: object) -> Iterator[InitErrorDetails]:
    """What is wrong between fields that are right by themselves; wrong ones are passed over, they are told elsewhere."""
    settings = _mapping(values)
    if settings.get("owners") in ([], ()):
        yield _fault(("owners",), "must have an entry")
    yield from _faults_of_toggles(_mapping(settings.get("accounts")), _mapping(settings.get("contacts")))
    for part in _FIELDS:
        chosen = _mapping(settings.get(part))
        yield from _faults_of_custom_fields(part, _mapping(chosen.get("custom_fields")))
        yield from _faults_of_mapping(part, chosen)


def _faults_of_toggles(accounts: Mapping[str, Any], contacts: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    accounts_off, contacts_off = accounts.get("enabled") is False, contacts.get("enabled") is False
    if accounts_off and contacts_off:
        yield _fault(("accounts", "enabled"), "accounts and contacts are both off, at least one must be on")
    elif accounts_off and contacts.get("source", "synced_accounts") == "synced_accounts":
        yield _fault(
            ("contacts", "source"), "synced_accounts needs accounts.enabled (turn it on or choose a list view)"
        )


def _faults_of_custom_fields(part: str, declared: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    for name, custom_field in declared.items():
        place = (part, "custom_fields", name)
        kind, values = _mapping(custom_field).get("type"), _mapping(custom_field).get("values", ())
        if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(values, list | tuple):
            continue
        if (kind == CustomFieldType.ENUM) != bool(values):
            yield _fault(place, "an enum needs its values, and only an enum has values")
        for number, value in enumerate(values):
            if value in values[:number]:
                yield _fault((*place, "values", number), "is there twice")


def _faults_of_mapping(part: str, chosen: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    entries = chosen.get("mapping")
    before: list[tuple[int, str, str]] = []
    for number, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
        salesforce_field, field = _mapping(entry).get("salesforce_field"), _mapping(entry).get("field")
        if not isinstance(field, str):
            continue
        place = (part, "mapping", number)
        yield from _faults_of_field(part, place, field, _mapping(chosen.get("custom_fields")))
        if isinstance(salesforce_field, str):
            yield from _faults_with_entries_before(part, place, salesforce_field, field, before)
            before.append((number + 1, salesforce_field, field))


def _faults_of_field(part: str, place: Place, field: str, declared: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    if field.startswith(_CUSTOM_PREFIX):
        if field.removeprefix(_CUSTOM_PREFIX) not in declared:
            yield _fault((*place, "field"), f"{field} is not declared in {part}.custom_fields")
    elif field not in _FIELDS[part]:
        yield _fault((*place, "field"), f"must be one of {', '.join(sorted(_FIELDS[part]))} or custom_fields.<name>")


def _faults_with_entries_before(
    part: str, place: Place, salesforce_field: str, field: str, before: list[tuple[int, str, str]]
) -> Iterator[InitErrorDetails]:
    same_source = [entry for entry in before if entry[1].lower() == salesforce_field.lower()]
    same_target = [entry for entry in before if entry[2] == field]
    if any(spelled != salesforce_field for _, spelled, _ in same_source):
        yield _fault((*place, "salesforce_field"), f"is spelled differently in entry {same_source[0][0]}")
    if set(same_source) & set(same_target):
        yield _fault(place, f"says the same as entry {same_target[0][0]}")
    elif same_target and field not in _FED_BY_MANY[part]:
        yield _fault((*place, "field"), f"{field} is already fed by entry {same_target[0][0]}")


def _mapping(values: object) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {}


def _fault(place: Place, message: str, kind: str = "between_fields") -> InitErrorDetails:
    # A template without a context is taken as it is, so that braces in the message do no harm.
    error = PydanticCustomError(kind, message)
    return InitErrorDetails(type=error, loc=place, input=None)


def _refuse(faults: list[InitErrorDetails]) -> NoReturn:
    raise ValidationError.from_exception_data(Settings.__name__, faults, hide_input=True) from None


def _describe_place(place: Place) -> str:
    """`contacts.mapping, entry 2, field` for ("contacts", "mapping", 1, "field"); pydantic's own remarks left out."""
    words = []
    for part, remark in zip_longest(place, place[1:]):
        if isinstance(part, int) and remark != _KEY:
            words.append(f", entry {part + 1}, ")
        elif part not in {_NAMED, _LIST_VIEW, _KEY}:
            words.append(f".{part}")
    return "".join(words).replace(", .", ", ").removeprefix(".").removesuffix(", ") or "settings"
