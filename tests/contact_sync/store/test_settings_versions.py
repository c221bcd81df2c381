"""Settings in the store: who saved which version."""

import psycopg
import pytest

from include.contact_sync.errors import RunError
from include.contact_sync.settings import Settings
from include.contact_sync.store.settings_versions import list_versions, load_as_saved, load_settings, save_settings
from tests.conftest import Store


def test_the_newest_version_is_loaded_and_older_ones_on_request(
    connection: psycopg.Connection, settings: Settings
) -> None:
    changed = settings.model_copy(update={"default_region": "DE"})
    first = save_settings(connection, settings, "ann")
    second = save_settings(connection, changed, "bob")
    newest = load_settings(connection)
    assert (newest.version, newest.settings, newest.saved_by) == (second, changed, "bob")
    assert newest.saved_at.tzinfo is not None
    assert load_settings(connection, first).settings == settings
    assert [(saved.version, saved.saved_by) for saved in list_versions(connection)] == [(second, "bob"), (first, "ann")]


def test_saving_the_same_again_makes_no_new_version_but_going_back_does(
    connection: psycopg.Connection, settings: Settings
) -> None:
    first = save_settings(connection, settings, "ann")
    assert save_settings(connection, settings, "bob") == first
    save_settings(connection, settings.model_copy(update={"staged_data_days": 1}), "ann")
    assert save_settings(connection, settings, "ann") == first + 2


def test_without_saved_settings_the_error_says_how_to_save_some(connection: psycopg.Connection) -> None:
    with pytest.raises(RunError, match="no settings were saved yet; `settings apply") as missing:
        load_settings(connection)
    assert missing.value.code == "settings_invalid"


def test_a_version_that_does_not_exist_is_named(connection: psycopg.Connection) -> None:
    with pytest.raises(RunError, match="version 7 does not exist"):
        load_settings(connection, 7)


def test_saved_settings_that_are_no_longer_valid_are_refused_with_their_faults(
    store: Store, connection: psycopg.Connection
) -> None:
    store.execute(
        """INSERT INTO contact_store.sync_settings (settings, saved_by) VALUES ('{"owners": []}', 'old release')"""
    )
    with pytest.raises(RunError, match=r"owners.*accounts|accounts.*owners"):
        load_settings(connection)
    assert [saved.saved_by for saved in list_versions(connection)] == ["old release"]
    assert load_as_saved(connection) == (1, {"owners": []})


def test_the_newest_settings_can_be_had_as_they_were_saved(connection: psycopg.Connection, settings: Settings) -> None:
    with pytest.raises(RunError, match="no settings were saved yet"):
        load_as_saved(connection)
    version = save_settings(connection, settings, "ann")
    assert load_as_saved(connection) == (version, settings.as_json)
