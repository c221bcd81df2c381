"""The mapping, resolved: what each part reads and fills."""

from typing import Any

from include.contact_sync.columns import HandleColumn, Part, ValueColumn, resolve_columns
from include.contact_sync.settings import CustomFieldType, parse_settings
from tests.whole_runs import lines

SETTINGS = parse_settings(
    {
        "owners": ["owner@example.com"],
        "default_region": "DE",
        "accounts": {"mapping": lines(Name="name", Website="domain", Other_Site__c="domain", Logo__c="logo_url")},
        "contacts": {
            "custom_fields": {"tier": {"type": "enum", "values": ["Gold"]}},
            "mapping": [
                *lines(Name="name", Phone="phone", Email="email", MobilePhone="phone", Key__c="custom_handle"),
                *lines(Home="url", Tier__c="custom_fields.tier", Blog="url"),
            ],
        },
    }
)


def contact_columns(types: dict[str, str] | None = None, missing: tuple[str, ...] = ()) -> Any:
    return resolve_columns(Part.CONTACTS, SETTINGS, types or {}, missing)


def test_rule_3_1_several_fields_feed_handles_and_links_in_the_order_of_the_mapping() -> None:
    columns = contact_columns({"Email": "email", "Home": "url"})
    assert [(column.salesforce_field, column.source, column.type) for column in columns.handles] == [
        ("Phone", "phone", "string"),
        ("Email", "email", "email"),
        ("MobilePhone", "phone", "string"),
        ("Key__c", "custom", "string"),
    ]
    assert columns.fields == (
        ValueColumn("name", ("Name",), ("string",)),
        ValueColumn("links", ("Home", "Blog"), ("url", "string")),
        ValueColumn("custom_fields.tier", ("Tier__c",), ("string",), CustomFieldType.ENUM, ("Gold",)),
    )
    assert [column.custom_field for column in columns.fields] == [None, None, "tier"]
    assert columns.default_region == "DE"


def test_rule_3_3_a_missing_field_leaves_its_column_out_but_its_handles_are_remembered() -> None:
    """Rule 4.10: web links are one field, kept as a whole while one of theirs is missing."""
    columns = contact_columns(missing=("Blog", "Email", "Tier__c"))
    assert [column.name for column in columns.fields] == ["name"]
    assert [column.salesforce_field for column in columns.handles if column.missing] == ["Email"]
    assert columns.missing_fields == ("Blog", "Email", "Tier__c")


def test_rule_5_the_handles_of_accounts_are_their_domains_and_none_is_needed() -> None:
    columns = resolve_columns(Part.ACCOUNTS, SETTINGS, {}, [])
    assert columns.handles == (HandleColumn("Website", "domain"), HandleColumn("Other_Site__c", "domain"))
    assert [column.name for column in columns.fields] == ["name", "logo_url"]
    assert not columns.handle_is_needed
    assert contact_columns().handle_is_needed


def test_custom_and_plain_columns_are_told_apart() -> None:
    columns = contact_columns()
    assert [column.name for column in columns.custom] == ["custom_fields.tier"]
    assert [column.name for column in columns.plain] == ["name", "links"]
