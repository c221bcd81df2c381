"""The sync settings: what is accepted, and that every fault is told at once, each with its place."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.contact_sync.errors import RunError
from include.contact_sync.settings import (
    HANDLE_SOURCES,
    AccountsSettings,
    ContactsSettings,
    CustomFieldType,
    FieldMapping,
    ListViewSource,
    Settings,
    parse_settings,
    read_settings,
    to_yaml,
)

COMPLETE = """
default_region: DE
maximum_contacts: 5000
staged_data_days: 3
owners: [sales-ops@example.com]
people:
  ann: ann@example.com
accounts:
  source: {list_view: 00B000000000001AAA}
  custom_fields:
    seats: {type: number}
  mapping:
    - {salesforce_field: Name, field: name}
    - {salesforce_field: Website, field: domain}
    - {salesforce_field: Seats__c, field: custom_fields.seats}
contacts:
  source: synced_accounts
  custom_fields:
    tier: {type: enum, values: [gold, 'no', on]}
  mapping:
    - {salesforce_field: Name, field: name}
    - {salesforce_field: Email, field: email}
    - {salesforce_field: OtherEmail__c, field: email}
    - {salesforce_field: Account.Name, field: description}
    - {salesforce_field: Tier__c, field: custom_fields.tier}
"""


def settings_with(**changes: Any) -> dict[str, Any]:
    """Valid settings, changed at the top level."""
    mapping = [{"salesforce_field": "Email", "field": "email"}]
    usual = {"accounts": {"mapping": []}, "contacts": {"mapping": mapping}, "owners": ["owner@example.com"]}
    return {**usual, **changes}


def contacts_with(**changes: Any) -> dict[str, Any]:
    return settings_with(contacts={"mapping": [], **changes})


def contacts_mapping(*pairs: tuple[str, str]) -> dict[str, Any]:
    return contacts_with(mapping=[{"salesforce_field": source, "field": field} for source, field in pairs])


def faults_of(values: object) -> list[str]:
    with pytest.raises(RunError) as refused:
        parse_settings(values)
    assert refused.value.code == "settings_invalid"
    return refused.value.detail.split("; ")


def test_complete_settings_are_read_as_written() -> None:
    settings = read_settings(COMPLETE)
    assert settings.accounts.source == ListViewSource(list_view="00B000000000001AAA")
    assert settings.contacts.source == "synced_accounts"
    assert settings.contacts.mapping[1] == FieldMapping(salesforce_field="Email", field="email")
    assert settings.contacts.mapping[4].custom_field == "tier"
    assert settings.contacts.mapping[1].custom_field is None
    assert settings.contacts.custom_fields["tier"].type is CustomFieldType.ENUM
    assert settings.contacts.custom_fields["tier"].values == ("gold", "no", "on")
    assert (settings.default_region, settings.maximum_contacts, settings.staged_data_days) == ("DE", 5000, 3)


def test_what_is_left_out_has_its_usual_value() -> None:
    settings = parse_settings(settings_with())
    assert (settings.accounts.source, settings.contacts.source) == ("all_accounts", "synced_accounts")
    assert (settings.accounts.enabled, settings.contacts.enabled) == (True, True)
    assert (settings.default_region, settings.maximum_contacts, settings.staged_data_days) == ("US", 1_000_000, 7)


def test_every_fault_is_told_at_once_with_its_place_whatever_else_is_wrong() -> None:
    with pytest.raises(RunError) as refused:
        read_settings("""
owners: []
colour: red
default_region: Utopia
maximum_contacts: 2000000
staged_data_days: "7"
people: {ann: nobody, 3: x@example.com}
accounts:
  enabled: perhaps
  source: some_accounts
  mapping:
    - {salesforce_field: Id, field: name}
    - {salesforce_field: Site, field: name}
contacts:
  source: {list_view: 001000000000000AAA}
  custom_fields:
    a.b: {type: text}
    kind: {type: enum}
    age: {type: number, values: ['1']}
    size: {type: enum, values: [S, M, S]}
  mapping:
    - {salesforce_field: "A b", field: nickname}
    - {field: custom_fields.unknown}
    - {salesforce_field: email, field: email}
    - {salesforce_field: Email, field: email}
    - just text
colour: green
""")
    assert refused.value.code == "settings_invalid"
    assert sorted(refused.value.detail.split("; ")) == sorted([
        "line 27: the key 'colour' is there twice",
        "accounts.enabled: must be true or false",
        "accounts.mapping, entry 1, salesforce_field: the Id is synced by itself and cannot be mapped",
        "accounts.mapping, entry 2, field: name is already fed by entry 1",
        "accounts.source: must be 'all_accounts', or a list view given as list_view: <id>",
        "colour: is not a setting",
        "contacts.custom_fields.a.b: must be a name without dots, at most 100 characters",
        "contacts.custom_fields.a.b.type: must be one of 'string', 'number', 'boolean', 'datetime' or 'enum'",
        "contacts.custom_fields.age: an enum needs its values, and only an enum has values",
        "contacts.custom_fields.kind: an enum needs its values, and only an enum has values",
        "contacts.custom_fields.size.values, entry 3: is there twice",
        "contacts.mapping, entry 1, field: must be one of custom_handle, description, email, facebook, name, phone, twitter,"
        " url or custom_fields.<name>",
        "contacts.mapping, entry 1, salesforce_field: must be the API name of a Salesforce field, such as Email, Region__c"
        " or Account.Name",
        "contacts.mapping, entry 2, field: custom_fields.unknown is not declared in contacts.custom_fields",
        "contacts.mapping, entry 2, salesforce_field: is missing",
        "contacts.mapping, entry 4, salesforce_field: is spelled differently in entry 3",
        "contacts.mapping, entry 4: says the same as entry 3",
        "contacts.mapping, entry 5: must be a mapping of names to values",
        "contacts.source.list_view: must be the id of a list view: 15 or 18 letters and digits that begin with 00B",
        "default_region: is not a region with a numbering plan (use two capital letters such as US or DE)",
        "maximum_contacts: must be at most 1000000",
        "owners: must have an entry",
        "people.3: must be a text (put it in quotes)",
        "people.ann: must be an e-mail address",
        "staged_data_days: must be a whole number",
    ])  # fmt: skip


def test_rule_3_2_a_mapped_id_has_its_own_code_where_it_is_the_only_kind_of_fault() -> None:
    with pytest.raises(RunError, match=r"accounts.mapping, entry 1.*contacts.mapping, entry 2") as refused:
        parse_settings(
            settings_with(
                accounts={"mapping": [{"salesforce_field": "ID", "field": "name"}]},
                contacts={
                    "mapping": [
                        {"salesforce_field": "Email", "field": "email"},
                        {"salesforce_field": "Account.Id", "field": "name"},
                    ]
                },
            )
        )
    assert refused.value.code == "contact_id_mapped"


def test_a_reference_to_another_record_is_not_the_contact_id() -> None:
    parse_settings(contacts_mapping(("AccountId", "description"), ("Idea__c", "name")))


def test_rule_1_4_either_toggle_or_both_can_be_on_but_not_none() -> None:
    list_view = {"list_view": "00B000000000001"}
    parse_settings(settings_with(contacts={"enabled": False, "mapping": []}))
    parse_settings(
        settings_with(accounts={"enabled": False, "mapping": []}, contacts={"source": list_view, "mapping": []})
    )
    off = {"enabled": False, "mapping": []}
    assert faults_of(settings_with(accounts=off, contacts=off)) == [
        "accounts.enabled: accounts and contacts are both off, at least one must be on"
    ]


def test_rule_1_5_the_maximum_can_only_be_lowered() -> None:
    assert parse_settings(settings_with(maximum_contacts=1)).maximum_contacts == 1
    assert faults_of(settings_with(maximum_contacts=1_000_001)) == ["maximum_contacts: must be at most 1000000"]
    assert faults_of(settings_with(maximum_contacts=0)) == ["maximum_contacts: must be at least 1"]


@pytest.mark.parametrize("contacts", [{"mapping": []}, {"mapping": [], "source": "synced_accounts"}])
def test_rule_2_1_synced_accounts_need_the_accounts_toggle(contacts: dict[str, Any]) -> None:
    assert faults_of(settings_with(accounts={"enabled": False, "mapping": []}, contacts=contacts)) == [
        "contacts.source: synced_accounts needs accounts.enabled (turn it on or choose a list view)"
    ]


@pytest.mark.parametrize("wrong", ["all_accounts", None, 3, ["00B000000000001"]])
def test_rule_2_1_a_source_that_contacts_do_not_have_is_one_fault(wrong: object) -> None:
    assert faults_of(contacts_with(source=wrong)) == [
        "contacts.source: must be 'synced_accounts', or a list view given as list_view: <id>"
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "00B00000000001",
        "00B0000000000011",
        "00B000000000001AAAA",
        "00b000000000001",
        "003000000000001",
        "00B 00000000001",
    ],
)
def test_rule_2_2_a_list_view_id_has_15_or_18_characters_and_begins_with_00b(wrong: str) -> None:
    assert len(faults_of(settings_with(accounts={"source": {"list_view": wrong}, "mapping": []}))) == 1


@pytest.mark.parametrize("field", ["url", *HANDLE_SOURCES])
def test_rule_3_1_several_salesforce_fields_may_feed_a_handle_or_the_links(field: str) -> None:
    parse_settings(contacts_mapping(("A__c", field), ("B__c", field)))


@pytest.mark.parametrize("field", ["name", "description", "custom_fields.note"])
def test_rule_3_1_every_other_contact_field_has_one_source(field: str) -> None:
    values = contacts_mapping(("A__c", field), ("B__c", field), ("C__c", field))
    values["contacts"]["custom_fields"] = {"note": {"type": "string"}}
    assert faults_of(values) == [
        f"contacts.mapping, entry {entry}, field: {field} is already fed by entry 1" for entry in (2, 3)
    ]


def test_rule_3_1_one_salesforce_field_may_feed_several_fields() -> None:
    parse_settings(contacts_mapping(("Phone", "phone"), ("Phone", "description")))


@pytest.mark.parametrize("field", ["domain", "logo_url"])
def test_rule_3_1_account_fields_belong_to_accounts(field: str) -> None:
    accounts = {
        "mapping": [{"salesforce_field": "A__c", "field": field}, {"salesforce_field": "Name", "field": "name"}]
    }
    parse_settings(settings_with(accounts=accounts))
    assert len(faults_of(contacts_mapping(("A__c", field)))) == 1


def test_rule_3_1_an_account_may_have_several_domains() -> None:
    entries = [{"salesforce_field": field, "field": "domain"} for field in ("Website", "Second__c")]
    parse_settings(settings_with(accounts={"mapping": entries}))


@pytest.mark.parametrize("form", ["Email", "Region__c", "Account.Name", "Account.Owner.Manager.Name", "ns__X__c"])
def test_api_names_and_parent_paths_can_be_mapped(form: str) -> None:
    parse_settings(contacts_mapping((form, "name")))


@pytest.mark.parametrize(
    "form", ["", " Email", "Email ", "1st", "Account.", ".Name", "a,b", "Email FROM User", "A" * 256, "É"]
)
def test_nothing_else_gets_into_a_query(form: str) -> None:
    assert len(faults_of(contacts_mapping((form, "name")))) == 1


@pytest.mark.parametrize(
    "wrong", ["nobody", "a@b@c", "a b@c.de", "a@b.co\nBcc: x@y.zz", "a@b.co, x@y.zz", "Ann <a@b.co>", "a\x00@b.co"]
)
def test_an_address_is_exactly_one_address_and_not_repeated_in_the_fault(wrong: str) -> None:
    assert faults_of(settings_with(owners=[wrong])) == ["owners, entry 1: must be an e-mail address"]
    assert faults_of(settings_with(people={"ann": wrong})) == ["people.ann: must be an e-mail address"]


@pytest.mark.parametrize("wrong", ["\x00", "\ud800", "", "a\nb", "\x85", "x" * 256])
def test_texts_that_store_yaml_or_mail_cannot_hold_are_refused(wrong: str) -> None:
    assert len(faults_of(contacts_with(custom_fields={"a": {"type": "enum", "values": [wrong]}}))) == 1
    assert len(faults_of(settings_with(people={wrong: "a@b.co"}))) == 1


@pytest.mark.parametrize("wrong", [None, [], "text", 3, {}])
def test_what_is_no_settings_at_all_is_refused(wrong: object) -> None:
    faults_of(wrong)


@pytest.mark.parametrize("wrong", [None, 3, "text", [3], {"a": 1}, [[]], {3: {}}, {None: []}])
def test_any_part_of_the_wrong_shape_is_a_fault_and_nothing_breaks(wrong: object) -> None:
    faults_of(settings_with(accounts=wrong))
    for place in ("mapping", "custom_fields", "source", "enabled"):
        faults_of(contacts_with(**{place: wrong}))
    faults_of(contacts_with(custom_fields={"a": wrong}))
    faults_of(contacts_with(custom_fields={"a": {"type": wrong}}))
    faults_of(contacts_with(custom_fields={"a": {"type": "enum", "values": wrong}}))
    faults_of(contacts_with(mapping=[wrong]))
    faults_of(contacts_with(mapping=[{"salesforce_field": wrong, "field": wrong}])) if wrong != "text" else None
    faults_of(settings_with(people=wrong))


def test_settings_cannot_be_built_around_the_checks_between_fields() -> None:
    off = AccountsSettings(enabled=False, mapping=())
    with pytest.raises(ValidationError, match="at least one must be on"):
        Settings(accounts=off, contacts=ContactsSettings(enabled=False, mapping=()), owners=("a@b.co",))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_settings(COMPLETE).default_region = "US"  # type: ignore[misc]


# --- YAML --------------------------------------------------------------------------------------------------------


def test_norway_is_a_region() -> None:
    assert read_settings(COMPLETE.replace("DE", "NO")).default_region == "NO"


def test_a_repeated_key_is_told_with_its_line_also_deep_inside_and_where_all_else_is_right() -> None:
    text = COMPLETE.replace("  source: synced_accounts\n", "  source: synced_accounts\n  source: synced_accounts\n")
    with pytest.raises(RunError, match=r"^settings_invalid: .*line 18: the key 'source' is there twice"):
        read_settings(text)


def test_a_repeated_key_beside_a_mapped_id_is_settings_invalid() -> None:
    text = yaml.safe_dump(contacts_mapping(("Id", "name"))) + "owners: [x@example.com]\n"
    with pytest.raises(
        RunError, match=r"line \d+: the key 'owners' is there twice; contacts.mapping, entry 1"
    ) as refused:
        read_settings(text)
    assert refused.value.code == "settings_invalid"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "a: &x 1\nb: *y",
        "a: 2020-99-99",
        "a: !!python/object:os.system x",
        "a: 1\n---\nb: 2",
        "[" * 2000,
        "\x00",
    ],
)
def test_text_that_is_not_yaml_is_settings_invalid(text: str) -> None:
    with pytest.raises(RunError, match="not YAML") as refused:
        read_settings(text)
    assert refused.value.code == "settings_invalid"


def test_a_yaml_error_names_its_line_and_does_not_repeat_it() -> None:
    with pytest.raises(RunError, match="in line 3") as refused:
        read_settings("owners:\n  - secret.person@example.com\n  secret.person: [\n")
    assert "secret" not in str(refused.value)


def test_an_alias_that_contains_itself_is_refused() -> None:
    with pytest.raises(RunError):
        read_settings("accounts: &a {mapping: [*a]}\ncontacts: *a\nowners: [a@b.co]")


# --- round trips -------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
TEXTS = NAMES | st.sampled_from(
    ["no", "NO", "on", "true", "null", "~", "1", "1e5", "2020-01-01", "=", "<<", " a ", "a: b", "#", "\ufeff"]
)
CUSTOM_NAMES = NAMES.filter(lambda name: "." not in name and not name[0].isspace())
CUSTOM_FIELDS = st.dictionaries(
    CUSTOM_NAMES,
    st.sampled_from([{"type": kind} for kind in ("string", "number", "boolean", "datetime")])
    | st.builds(
        lambda values: {"type": "enum", "values": values}, st.lists(TEXTS, min_size=1, max_size=3, unique=True)
    ),
    max_size=3,
)


@st.composite
def valid_settings(draw: st.DrawFn) -> dict[str, Any]:
    custom_fields = draw(CUSTOM_FIELDS)
    entries = [
        {"salesforce_field": f"F{number}__c", "field": f"custom_fields.{name}"}
        for number, name in enumerate(custom_fields)
    ]
    handles = draw(st.lists(st.sampled_from(sorted(HANDLE_SOURCES)), max_size=3))
    entries += [{"salesforce_field": f"H{number}__c", "field": field} for number, field in enumerate(handles)]
    return {
        "accounts": {"enabled": draw(st.booleans()), "mapping": []},
        "contacts": {
            "source": {"list_view": "00B000000000001"},
            "custom_fields": custom_fields,
            "mapping": draw(st.permutations(entries)),
        },
        "owners": ["owner@example.com"],
        "people": draw(st.dictionaries(TEXTS, st.just("ann@example.com"), max_size=3)),
        "default_region": draw(st.sampled_from(["US", "NO", "DE"])),
        "staged_data_days": draw(st.integers(0, 365)),
    }


@given(valid_settings())
def test_settings_survive_json_and_yaml(values: dict[str, Any]) -> None:
    settings = parse_settings(values)
    assert parse_settings(settings.as_json) == settings
    assert read_settings(to_yaml(settings)) == settings


# --- recipients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triggered_by", "notify", "expected"),
    [
        ("ann", None, ["ann@example.com"]),
        ("bob@example.com", None, ["bob@example.com"]),
        ("stranger", None, ["sales-ops@example.com"]),
        (None, None, ["sales-ops@example.com"]),
        (None, "cfo@example.com", ["sales-ops@example.com", "cfo@example.com"]),
        ("ann", "ann@example.com", ["ann@example.com"]),
    ],
)
def test_rule_8_1_the_person_who_triggered_is_told_else_the_owners(
    triggered_by: str | None, notify: str | None, expected: list[str]
) -> None:
    assert read_settings(COMPLETE).recipients(triggered_by, notify) == expected
