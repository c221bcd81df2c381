"""The control API: what it does to records, and who may use it."""

from datetime import UTC, datetime, timedelta

import pytest

from include.salesforce_simulator import ids
from include.salesforce_simulator.server import Simulator
from tests.salesforce_simulator.conftest import Api, create_contacts, open_session

STAMPS = "SELECT SystemModstamp FROM Contact WHERE Id = '{}'"


def stamp(api: Api, contact: str) -> str:
    return str(api.values(STAMPS.format(contact), "/queryAll")[0])


def test_the_control_api_wants_its_token(sim: Simulator) -> None:
    with open_session(sim) as session:
        assert session.post(f"{sim.url}/control/records", json={"sobject": "Contact"}, timeout=20).status_code == 403
        assert session.get(f"{sim.url}/control/records/Contact", timeout=20).status_code == 403
        session.headers["X-Simulator-Token"] = sim.state.control_token
        assert len(session.get(f"{sim.url}/control/records/Contact", timeout=20).json()) == 1988
        assert len(session.get(f"{sim.url}/control/records/Contact?deleted=true", timeout=20).json()) == 2000


def test_records_can_be_asked_for_some_fields_only(sim: Simulator) -> None:
    records = sim.control.records(sobject="Contact", fields=["Id", "LastName"])
    assert len(records) == 1988
    assert {name for record in records for name in record} == {"Id", "LastName"}


def test_an_unknown_verb_or_argument_is_refused(sim: Simulator) -> None:
    with pytest.raises(AttributeError):
        sim.control.conquer()
    with pytest.raises(ValueError, match="unexpected keyword"):
        sim.control.now(loudly=True)
    with pytest.raises(ValueError, match="no such option: speed"):
        sim.control.change_options(speed=1)
    with pytest.raises(ValueError, match="no such property: hat"):
        sim.control.change_user(hat="green")
    with open_session(sim) as session:
        session.headers["X-Simulator-Token"] = sim.state.control_token
        assert session.post(f"{sim.url}/control/_user", json={}, timeout=20).status_code == 400


def test_an_edit_stamps_the_record_at_one_second(api: Api) -> None:
    api.sim.control.set_clock(moment="2026-09-01T10:00:00+00:00")
    [made] = create_contacts(api.sim, {"FirstName": "Before"})
    assert stamp(api, made) == "2026-09-01T10:00:00.000+0000"
    api.sim.control.advance_clock(seconds=3600)
    api.log_in()
    api.sim.control.update(sobject="Contact", ids=[made[:15]], values={"firstname": "After"})
    assert stamp(api, made).startswith("2026-09-01T11:00:0")
    assert api.values(f"SELECT FirstName FROM Contact WHERE Id = '{made}'") == ["After"]
    assert api.values(f"SELECT CreatedDate FROM Contact WHERE Id = '{made}'") == ["2026-09-01T10:00:00.000+0000"]


def test_a_commit_can_become_visible_late_with_an_older_stamp(api: Api) -> None:
    [made] = api.sim.control.create(sobject="Contact", records=[{"LastName": "Late"}], at="2026-01-02T03:04:05+00:00")
    assert stamp(api, made) == "2026-01-02T03:04:05.000+0000"
    api.sim.control.update(sobject="Contact", ids=[made], values={"Title": "x"}, at="2026-01-02T03:04:06+00:00")
    assert stamp(api, made) == "2026-01-02T03:04:06.000+0000"


def test_a_formula_follows_the_account_and_stamps_nobody(api: Api, account: str) -> None:
    [made] = create_contacts(api.sim, {"AccountId": account})
    before = stamp(api, made)
    api.sim.control.advance_clock(seconds=60)
    api.sim.control.update(sobject="Account", ids=[account], values={"Name": "Renamed"})
    assert api.values(f"SELECT Account_Label__c FROM Contact WHERE Id = '{made}'") == ["Renamed – Peru"]
    assert stamp(api, made) == before


def test_delete_and_undelete_keep_the_record_and_stamp_it(api: Api) -> None:
    [made] = create_contacts(api.sim, {})
    query = f"SELECT IsDeleted FROM Contact WHERE Id = '{made}'"
    before = stamp(api, made)
    api.sim.control.advance_clock(seconds=60)
    api.sim.control.delete(sobject="Contact", ids=[made])
    assert (api.values(query), api.values(query, "/queryAll")) == ([], [True])
    deleted_at = stamp(api, made)
    assert deleted_at > before
    with pytest.raises(ValueError, match="entity is deleted"):
        api.sim.control.update(sobject="Contact", ids=[made], values={"Title": "x"})
    api.sim.control.advance_clock(seconds=60)
    api.sim.control.undelete(sobject="Contact", ids=[made])
    assert api.values(query) == [False]
    assert stamp(api, made) > deleted_at


def test_an_account_takes_its_contacts_along_and_brings_back_those_that_went_with_it(api: Api, account: str) -> None:
    early, late = create_contacts(api.sim, {"AccountId": account}, {"AccountId": account})
    query = f"SELECT Id FROM Contact WHERE AccountId = '{account}'"
    api.sim.control.delete(sobject="Contact", ids=[early])
    api.sim.control.advance_clock(seconds=60)
    api.sim.control.delete(sobject="Account", ids=[account])
    assert api.values(query) == []
    api.sim.control.undelete(sobject="Account", ids=[account])
    assert api.values(query) == [late]


def test_losers_of_a_merge_name_their_master_and_children_follow_the_winner(api: Api, account: str) -> None:
    winner, loser, other = create_contacts(api.sim, {}, {}, {})
    api.sim.control.merge(sobject="Contact", winner=winner, losers=[loser, other])
    found = api.query(
        f"SELECT Id, MasterRecordId, IsDeleted FROM Contact WHERE MasterRecordId = '{winner}'", "/queryAll"
    )["records"]
    assert {(one["Id"], one["IsDeleted"]) for one in found} == {(loser, True), (other, True)}
    [second] = api.sim.control.create(sobject="Account", records=[{"Name": "Second"}])
    [child] = create_contacts(api.sim, {"AccountId": account})
    api.sim.control.merge(sobject="Account", winner=second, losers=[account])
    assert api.values(f"SELECT AccountId FROM Contact WHERE Id = '{child}'") == [second]


def test_a_hard_delete_leaves_nothing_for_query_all(api: Api) -> None:
    [made] = create_contacts(api.sim, {})
    api.sim.control.hard_delete(sobject="Contact", ids=[made])
    assert api.query(f"SELECT Id FROM Contact WHERE Id = '{made}'", "/queryAll")["totalSize"] == 0
    with pytest.raises(ValueError, match="does not exist"):
        api.sim.control.delete(sobject="Contact", ids=[made])


def test_the_recycle_bin_is_purged_after_15_days(api: Api) -> None:
    made = create_contacts(api.sim, {}, {})
    api.sim.control.delete(sobject="Contact", ids=made)
    now = datetime.now(UTC)
    api.sim.control.set_clock(moment=(now + timedelta(days=14)).isoformat())
    api.sim.control.purge_recycle_bin()
    query = f"SELECT count() FROM Contact WHERE Id IN ('{made[0]}', '{made[1]}')"
    api.log_in()
    assert api.query(query, "/queryAll")["totalSize"] == 2
    api.sim.control.set_clock(moment=(now + timedelta(days=16)).isoformat())
    assert api.sim.control.purge_recycle_bin() >= 2
    api.log_in()
    assert api.query(query, "/queryAll")["totalSize"] == 0
    assert api.query("SELECT count() FROM Contact")["totalSize"] == 1988


def test_a_record_can_be_given_any_id_and_an_unknown_field_is_refused(api: Api) -> None:
    wanted = ids.lengthen("003HsBBBBBBbbbb")
    assert api.sim.control.create(sobject="Contact", records=[{"Id": wanted, "LastName": "Own"}]) == [wanted]
    with pytest.raises(ValueError, match="No such column 'Nope' on sobject of type Contact"):
        api.sim.control.create(sobject="Contact", records=[{"Nope": 1}])


def test_calls_and_bytes_are_counted_by_kind(api: Api) -> None:
    api.sim.control.forget_calls()
    api.finished_job("SELECT Id FROM Contact")
    api.get("/limits")
    api.get("/elsewhere")
    calls = api.sim.control.calls()
    assert calls["by_kind"] == {"bulk_create": 1, "bulk_poll": 2, "limits": 1, "nowhere": 1}
    assert calls["total"] == len(calls["log"]) == 5
    assert calls["bytes"] == sum(call["bytes"] for call in calls["log"]) > 0
    assert calls["log"][-1] == {
        "kind": "nowhere",
        "method": "GET",
        "path": "/services/data/v66.0/elsewhere",
        "status": 404,
        "bytes": calls["log"][-1]["bytes"],
    }


def test_starting_again_undoes_everything(api: Api) -> None:
    control = api.sim.control
    before = control.records(sobject="Contact", deleted=True)
    create_contacts(api.sim, {})
    control.delete(sobject="Contact", ids=[before[0]["Id"]])
    control.delete_field(sobject="Contact", name="Title")
    control.change_app(blocked=True)
    control.change_user(api_enabled=False)
    control.change_options(page_size=1)
    control.set_clock(moment="2030-01-01T00:00:00+00:00")
    control.add_fault(do="unavailable", times=0)
    control.start_again()
    assert control.records(sobject="Contact", deleted=True) == before
    assert abs(datetime.fromisoformat(control.now()) - datetime.now(UTC)) < timedelta(minutes=1)
    assert api.get("/limits").status_code == 401
    api.log_in()
    assert len(api.query("SELECT Id FROM Contact")["records"]) == 1988
