"""What the store itself refuses, whoever writes to it: the rules that are constraints."""

import psycopg
import pytest

from tests.conftest import Store

ANN = "003000000000001AAA"
ACME = "001000000000001AAA"


@pytest.fixture
def filled(store: Store) -> Store:
    """Contact 1, linked, of account 1, with two handles; contact 2 without anything."""
    store.execute(f"INSERT INTO contact_store.accounts (external_id) VALUES ('{ACME}')")
    store.execute("INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('acme.example', 1)")
    store.execute(f"INSERT INTO contact_store.contacts (external_id, account_id) VALUES ('{ANN}', 1), (NULL, NULL)")
    store.execute(
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id, origin, salesforce_field)"
        " VALUES ('email', 'ann@acme.example', 1, 'salesforce', 'Email'), ('custom', 'Ann', 1, 'person', NULL)"
    )
    return store


REFUSED = {
    "a link that another contact has": f"UPDATE contact_store.contacts SET external_id = '{ANN}' WHERE id = 2",
    "a link of 15 characters": "UPDATE contact_store.contacts SET external_id = '003000000000002' WHERE id = 2",
    "a link that another account has": f"INSERT INTO contact_store.accounts (external_id) VALUES ('{ACME}')",
    "a handle that another contact owns": (
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('email', 'ann@acme.example', 2)"
    ),
    "a handle of an unknown source": (
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('fax', '1', 2)"
    ),
    "an empty handle": "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('email', '', 2)",
    "an e-mail in capitals": (
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('email', 'A@b.co', 2)"
    ),
    "a handle of Salesforce that does not remember its field": (
        "UPDATE contact_store.contact_handles SET salesforce_field = NULL WHERE source = 'email'"
    ),
    "a handle of a person that remembers one": (
        "UPDATE contact_store.contact_handles SET salesforce_field = 'Email' WHERE source = 'custom'"
    ),
    "a domain that another account owns": (
        "INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('acme.example', 1)"
    ),
    "a domain with capitals": (
        "INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('Beta.example', 1)"
    ),
    "a domain with a path": (
        "INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('beta.example/home', 1)"
    ),
    "an account that does not exist": "UPDATE contact_store.contacts SET account_id = 99 WHERE id = 2",
    "custom fields that are no object": "UPDATE contact_store.contacts SET custom_fields = '[]' WHERE id = 2",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=list(REFUSED))
def test_the_store_refuses(filled: Store, statement: str) -> None:
    with pytest.raises(psycopg.IntegrityError):
        filled.execute(statement)


def test_rule_2_7_links_are_told_apart_by_case(filled: Store) -> None:
    filled.execute("UPDATE contact_store.contacts SET external_id = '003000000000001AAa' WHERE id = 2")


def test_the_same_value_may_be_a_handle_of_two_sources(filled: Store) -> None:
    filled.execute(
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('twitter', 'ann', 2)"
    )
    filled.execute(
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('facebook', 'ann', 1)"
    )


def test_deleting_an_account_leaves_its_contacts_and_deleting_a_contact_frees_its_handles(filled: Store) -> None:
    filled.execute("DELETE FROM contact_store.accounts")
    assert filled.execute("SELECT id, account_id FROM contact_store.contacts ORDER BY id") == [(1, None), (2, None)]
    filled.execute("DELETE FROM contact_store.contacts WHERE id = 1")
    assert filled.execute("SELECT count(*) FROM contact_store.contact_handles") == [(0,)]
