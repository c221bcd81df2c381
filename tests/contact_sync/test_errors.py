"""The error catalogue and the exceptions that carry it."""

import pytest

from include.contact_sync import errors
from include.contact_sync.errors import (
    CATALOGUE,
    AnotherRunIsActive,
    Level,
    RetryableError,
    RunError,
    RunRefused,
    StoreUnavailable,
    SyncError,
)

RULE_7 = """
no_handle             contact
email_taken           contact
phone_taken           contact
handle_taken          contact
domain_taken          account
invalid_handle        warning
invalid_value         warning
accounts_sync_failed  run
field_not_found       run      sync goes on
list_view_not_found   run
list_view_not_usable  run
contact_id_mapped     run
too_many_contacts     run
login_failed          run
api_disabled          run
app_blocked           run
api_limit             run      retried
salesforce_unavailable run     retried
not_balanced          run      retried
settings_invalid      run
"""


def test_rule_7_the_catalogue_has_exactly_these_codes_with_their_consequences() -> None:
    expected = {}
    for line in RULE_7.strip().splitlines():
        code, level, *remark = line.split(maxsplit=2)
        expected[code] = (Level(level), remark == ["retried"], remark == ["sync goes on"])
    found = {
        code: (entry.level, entry.retried, entry.level is Level.RUN and not entry.stops)
        for code, entry in CATALOGUE.items()
    }
    assert found == expected
    assert all(code == entry.code for code, entry in CATALOGUE.items())


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_code_says_what_happened_and_what_to_do(entry: errors.CatalogueEntry) -> None:
    assert entry.shown_as
    assert entry.how_to_resolve
    assert not entry.shown_as.endswith(".")


def test_a_run_error_says_its_code_the_detail_and_what_to_do() -> None:
    error = RunError("list_view_not_found", "Contact list view 00B000000000001AAA")
    assert str(error) == (
        "list_view_not_found: Salesforce list view not found (Contact list view 00B000000000001AAA)."
        " Choose a new list view in the sync settings, then restart"
    )
    assert str(RunError("login_failed")).startswith("login_failed: Salesforce refused the login. Check")


def test_a_code_outside_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        RunError("something_else")


def test_the_tree_separates_what_to_retry_from_what_to_stop() -> None:
    assert issubclass(RetryableError, RunError)
    assert issubclass(AnotherRunIsActive, RunRefused)
    assert not issubclass(RunRefused, RunError)
    assert not issubclass(StoreUnavailable, RunError | RunRefused)
    assert all(issubclass(error, SyncError) for error in (RunError, RunRefused, StoreUnavailable))
