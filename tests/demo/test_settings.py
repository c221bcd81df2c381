"""The demo's settings show what can be set."""

from pathlib import Path

from include.contact_sync.settings import CustomFieldType, read_settings

SETTINGS = read_settings((Path(__file__).resolve().parents[2] / "include" / "demo" / "settings.yaml").read_text())


def test_they_are_valid_and_show_every_type_of_custom_field() -> None:
    fields = [*SETTINGS.contacts.custom_fields.values(), *SETTINGS.accounts.custom_fields.values()]

    assert {field.type for field in fields} == set(CustomFieldType)


def test_the_person_who_triggers_the_demo_gets_the_e_mail() -> None:
    assert SETTINGS.recipients("admin") == ["admin@demo.example"]
