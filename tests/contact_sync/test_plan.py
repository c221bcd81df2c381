"""What a run writes and says of values, accounts and holders, on small stores without a database.

Ann, Bob and Cid are Salesforce ids in this order; the accounts with the Salesforce ids ACME and GLOBEX are stored as 70 and 80.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.match import StoredRecords, match
from include.contact_sync.plan import Plan
from include.contact_sync.settings import parse_settings
from include.contact_sync.transform import transform
from tests.contact_sync.worlds import salesforce_id
from tests.whole_runs import lines

ANN, BOB, CID = (salesforce_id(number) for number in range(1, 4))
ACME, GLOBEX = "001000000000001AAA", "001000000000002AAA"
SETTINGS = parse_settings(
    {
        "owners": ["owner@example.com"],
        "accounts": {"mapping": lines(Name="name", Website="domain")},
        "contacts": {
            "custom_fields": {"score": {"type": "number"}},
            "mapping": lines(Email="email", Name="name", Notes="description", Score="custom_fields.score"),
        },
    }
)
CONTACTS, ACCOUNTS = (resolve_columns(part, SETTINGS, {}, []) for part in (Part.CONTACTS, Part.ACCOUNTS))
TYPES = {"id": pa.int64(), "account_id": pa.int64(), "synced_account_id": pa.int64(), "record_id": pa.int64()}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def table(names: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Every row in a chunk of its own, as a store read in pages comes."""
    types = TYPES | {"not_syncing_since": pa.timestamp("us", "UTC")}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names.split()])
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.concat_tables([schema.empty_table(), *(pa.Table.from_pylist([row], schema=schema) for row in filled)])


def plan_for(stored: list[dict[str, Any]], source: list[dict[str, Any]], columns: Columns = CONTACTS) -> Plan:
    """A stored record's `handle` was given by Salesforce."""
    kind, field = ("email", "Email") if columns is CONTACTS else ("domain", "Website")
    values = " ".join(column.name for column in columns.fields)
    handles = [
        {
            "record_id": row["id"], "source": kind, "handle": row["handle"], "origin": "salesforce", "salesforce_field": field
        }
        for row in stored
        if "handle" in row
    ]  # fmt: skip
    store = StoredRecords(
        table(f"id external_id account_id synced_account_id not_syncing_since {values}", stored),
        table("record_id source handle origin salesforce_field", handles),
        table("id external_id", [{"id": 70, "external_id": ACME}, {"id": 80, "external_id": GLOBEX}, {"id": 90}]),
        table("loser winner", []),
    )
    clean = transform(table("Id AccountId Email Name Notes Score Website", source), columns)
    return match(clean, store, columns, whole_source=True)


def ann(**more: Any) -> dict[str, Any]:
    return {"Id": ANN, "Email": "ann@x.co"} | more


def stored_ann(**more: Any) -> dict[str, Any]:
    return {"id": 1, "external_id": ANN, "handle": "ann@x.co"} | more


def written(plan: Plan, *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in plan.writes.to_pylist()]


def test_rule_3_4_mapped_values_are_mirrored_an_empty_one_included_and_old_and_new_are_told() -> None:
    before = stored_ann(name="Ann", description="old", **{"custom_fields.score": "5"})
    plan = plan_for([before], [ann(Name="Anna", Score="5")])
    (row,) = plan.writes.to_pylist()
    assert [(row[name], row[f"old {name}"], row[f"changed {name}"]) for name in ("name", "description")] == [
        ("Anna", "Ann", True),
        (None, "old", True),
    ]
    assert (row["custom_fields.score"], row["changed custom_fields.score"]) == ("5", False)
    assert (row["record"], row["id"], row["outcome"], row["row_changed"]) == (0, 1, "updated", True)


def test_rule_3_5_a_value_that_cannot_be_read_leaves_what_is_stored_and_the_rest_syncs() -> None:
    before = [
        stored_ann(name="Ann", **{"custom_fields.score": "5"}),
        {"id": 2, "external_id": BOB, "handle": "bob@x.co", "custom_fields.score": "6"},
    ]
    same = {"Id": BOB, "Email": "bob@x.co", "Score": "7"}
    plan = plan_for(before, [ann(Name="Anna", Score="many"), same])
    assert written(plan, "id", "name", "custom_fields.score") == [(1, "Anna", "5"), (2, None, "7")]
    assert plan_for(before[:1], [ann(Name="Ann", Score="many")]).counts()["unchanged"] == 1


def test_rule_6_4_a_plan_counts_what_was_read_and_every_outcome() -> None:
    stored = [stored_ann(), {"id": 2, "handle": "bob@x.co"}, {"id": 3, "external_id": "elsewhere", "handle": "c@x.co"}]
    others = [{"Id": BOB, "Email": "bob@x.co"}, {"Id": CID, "Email": "c@x.co"}]
    new = {"Id": salesforce_id(4), "Email": "new@x.co"}
    assert plan_for(stored, [ann(), *others, new]).counts() == {
        "read": 4, "created": 1, "linked": 1, "updated": 0, "unchanged": 1, "error": 1,
    }  # fmt: skip
    assert plan_for(stored, [ann(Name="Ann")]).counts()["updated"] == 1


def test_rule_2_6_who_comes_back_is_updated_and_who_is_known_to_be_gone_is_not_named_again() -> None:
    stored = [stored_ann(not_syncing_since=LONG_AGO), {"id": 2, "external_id": BOB, "not_syncing_since": LONG_AGO}]
    plan = plan_for([*stored, {"id": 3, "external_id": CID}], [ann()])
    assert plan.counts()["updated"] == 1
    assert written(plan, "id", "row_changed") == [(1, True)]
    assert plan.stopped["id"].to_pylist() == [3]


def test_rule_2_6_a_skipped_contact_that_is_still_in_the_source_has_not_left_it() -> None:
    assert plan_for([stored_ann()], [ann(Email=None)]).stopped.num_rows == 0
    taken = [stored_ann(), {"id": 2, "external_id": BOB, "handle": "bob@x.co"}]
    assert plan_for(taken, [ann(Email="bob@x.co")]).stopped["id"].to_pylist() == [2]


def test_rule_5_a_contact_belongs_to_the_account_whose_link_is_its_account_id() -> None:
    plan = plan_for(
        [stored_ann(account_id=90)], [ann(AccountId=GLOBEX), {"Id": BOB, "Email": "b@x.co", "AccountId": ACME}]
    )
    names = ("account_id", "synced_account_id", "old_account_id", "changed account_id")
    assert written(plan, *names) == [(80, 80, 90, True), (70, 70, None, True)]
    settled = stored_ann(account_id=80, synced_account_id=80)
    assert plan_for([settled], [ann(AccountId=GLOBEX)]).counts()["unchanged"] == 1


def test_rule_5_where_the_account_is_not_linked_what_a_person_set_stays_and_what_the_sync_set_is_taken_back() -> None:
    by_person, by_sync = stored_ann(account_id=90), stored_ann(account_id=80, synced_account_id=80)
    for nowhere in (None, "001000000000009AAA"):
        assert plan_for([by_person], [ann(AccountId=nowhere)]).counts()["unchanged"] == 1
        taken_back = plan_for([by_sync], [ann(AccountId=nowhere)])
        assert written(taken_back, "account_id", "synced_account_id", "changed account_id") == [(None, None, True)]
    person_changed_it = stored_ann(account_id=90, synced_account_id=80)
    plan = plan_for([person_changed_it], [ann()])
    assert written(plan, "account_id", "synced_account_id", "changed account_id") == [(90, None, False)]


def errors(plan: Plan) -> list[tuple]:
    names = ["code", "level", "external_id", "value", "account", "holder_accounts"]
    return [tuple(row[name] for name in names) for row in plan.errors.to_pylist()]


def test_rule_8_3_a_collision_tells_the_accounts_of_both_sides_so_that_a_switchboard_can_be_seen() -> None:
    """The holder may be in the store alone, in this run, or both; its account need not be linked."""
    asking = {"Id": CID, "Email": "ann@x.co", "AccountId": GLOBEX}
    told = ("email_taken", "contact", CID, "ann@x.co", GLOBEX)
    assert errors(plan_for([stored_ann(account_id=70)], [asking])) == [(*told, json.dumps([ACME]))]
    assert errors(plan_for([stored_ann(account_id=90)], [asking])) == [(*told, "[null]")]
    assert errors(plan_for([stored_ann()], [asking])) == [(*told, "[null]")]
    for stored in ([], [stored_ann(account_id=70)]):
        plan = plan_for(stored, [ann(AccountId=GLOBEX), asking])
        assert errors(plan) == [(*told, json.dumps([GLOBEX]))]


def test_rule_4_13_a_collision_names_the_holder_with_its_id_in_the_store_and_in_salesforce() -> None:
    asking = {"Id": CID, "Email": "ann@x.co"}
    (error,) = plan_for([{"id": 5}, stored_ann(id=9)], [asking]).errors.to_pylist()
    assert json.loads(error["holders"]) == [
        {"contact_id": 9, "external_id": ANN, "source": "email", "handle": "ann@x.co"}
    ]
    assert (error["salesforce_field"], error["detail"]) == ("Email", None)


def test_rule_4_4_a_missing_handle_is_an_error_of_its_contact_without_holders() -> None:
    (error,) = plan_for([], [{"Id": ANN, "AccountId": ACME}]).errors.to_pylist()
    assert (error["code"], error["level"], error["external_id"]) == ("no_handle", "contact", ANN)
    assert (error["holders"], error["holder_accounts"]) == ("[]", "[]")


def test_rule_5_a_taken_domain_is_an_error_of_the_account_and_names_an_account() -> None:
    stored = [{"id": 8, "external_id": ACME, "handle": "acme.com", "name": "Acme"}]
    plan = plan_for(stored, [{"Id": GLOBEX, "Website": "acme.com"}], ACCOUNTS)
    assert errors(plan) == [("domain_taken", "account", GLOBEX, "acme.com", None, "[null]")]
    assert json.loads(plan.errors["holders"][0].as_py()) == [
        {"account_id": 8, "external_id": ACME, "source": "domain", "handle": "acme.com"}
    ]


def test_the_outcome_tells_the_rule_that_decided_and_the_handle_that_matched() -> None:
    """Rule 6.5."""
    stored = [stored_ann(name="Ann"), {"id": 2, "handle": "bob@x.co"}]
    plan = plan_for(stored, [ann(), {"Id": BOB, "Email": "bob@x.co"}, {"Id": CID, "Email": "c@x.co"}])
    names = ("outcome", "id", "rule", "matched_source", "matched_handle")
    assert [tuple(row[name] for name in names) for row in plan.outcomes.to_pylist()] == [
        ("updated", 1, "4.1", None, None),
        ("linked", 2, "4.2", "email", "bob@x.co"),
        ("created", None, "4.2", None, None),
    ]
    accounts = plan_for([], [{"Id": ACME, "Website": "acme.com", "Name": "Acme"}], ACCOUNTS)
    assert accounts.outcomes["rule"].to_pylist() == ["5"]


def test_an_id_may_be_as_large_as_postgresql_makes_them() -> None:
    large = 2**53 + 1
    assert written(plan_for([stored_ann(id=large)], [ann(Name="Ann")]), "id") == [(large,)]
    assert plan_for([stored_ann(id=large)], []).stopped["id"].to_pylist() == [large]


def test_a_run_in_which_nothing_happens_has_the_same_columns_as_any_other() -> None:
    stored = [stored_ann(), {"id": 2, "external_id": BOB}, {"id": 3, "external_id": CID, "handle": "c@x.co"}]
    found = {"id": 4, "handle": "found@x.co"}, {"Id": salesforce_id(8), "Email": "found@x.co"}
    source = [ann(Email="new@x.co"), {"Id": salesforce_id(9), "Email": "c@x.co"}]
    busy = plan_for([*stored, found[0]], [*source, found[1]])
    idle = plan_for([], [])
    for name in ("outcomes", "writes", "handles", "released", "stopped", "errors"):
        assert getattr(busy, name).num_rows > 0
        assert getattr(idle, name).num_rows == 0
        assert getattr(busy, name).schema == getattr(idle, name).schema
