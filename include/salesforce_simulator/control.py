"""The control API: what a test or a person does to the organisation from outside.

Each public method of `Control` is a verb: `POST /control/<verb>` with a JSON object of its arguments. `ControlClient`
is the same from the other side of the wire, with the same names. Nothing here imitates Salesforce.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import requests

from include.salesforce_simulator import ids
from include.salesforce_simulator.faults import Fault
from include.salesforce_simulator.list_views import ListView
from include.salesforce_simulator.render import as_json
from include.salesforce_simulator.schema import Field
from include.salesforce_simulator.state import State

_FIRST_LIST_VIEW_OF_TESTS = 5000


class Control:
    """The verbs."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._organisation = state.organisation

    def run(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Do what a call of the control API asks for."""
        method = None if verb.startswith("_") or verb == "run" else getattr(Control, verb, None)
        if method is None:
            raise ValueError(f"no such verb: {verb}")
        return method(self, **arguments)

    def records(
        self, sobject: str, deleted: bool | str = False, fields: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """All live records with their stored fields, for an independent count.

        `deleted` adds the deleted ones; of a million, ask only for the `fields` that are looked at.
        """
        rows = self._organisation.records(sobject, deleted_too=str(deleted).lower() in {"true", "1"})
        chosen = rows.select(fields) if fields else rows
        return [{name: as_json(value) for name, value in row.items()} for row in chosen.to_pylist()]

    def create(self, sobject: str, records: list[dict[str, Any]], at: str | None = None) -> list[str]:
        """Add records; returns their ids."""
        return [self._organisation.create(sobject, record, _moment(at)) for record in records]

    def update(self, sobject: str, ids: list[str], values: dict[str, Any], at: str | None = None) -> None:
        """Change records."""
        self._organisation.update(sobject, ids, values, _moment(at))

    def delete(self, sobject: str, ids: list[str]) -> None:
        """Move records to the recycle bin."""
        self._organisation.delete(sobject, ids)

    def undelete(self, sobject: str, ids: list[str]) -> None:
        """Take records out of the recycle bin."""
        self._organisation.undelete(sobject, ids)

    def hard_delete(self, sobject: str, ids: list[str]) -> None:
        """Remove records for good."""
        self._organisation.purge(sobject, ids)

    def purge_recycle_bin(self) -> int:
        """Remove what has been in the recycle bin for 15 days."""
        return self._organisation.purge_recycle_bin()

    def merge(self, sobject: str, winner: str, losers: list[str]) -> None:
        """Merge records into one."""
        self._organisation.merge(sobject, winner, losers)

    def add_field(self, sobject: str, name: str, type: str = "string", length: int = 255) -> None:
        """Add a custom field."""
        self._organisation.add_field(sobject, Field(name, type, length=length))

    def delete_field(self, sobject: str, name: str) -> None:
        """Delete a field with its values."""
        self._organisation.delete_field(sobject, name)

    def hide_field(self, sobject: str, name: str, username: str | None = None) -> None:
        """Keep a field from a user (by default the integration user)."""
        self._user(username).hidden_fields.setdefault(sobject, set()).add(name)

    def show_field(self, sobject: str, name: str, username: str | None = None) -> None:
        """Let a user see a field again."""
        self._user(username).hidden_fields.get(sobject, set()).discard(name)

    def create_list_view(
        self,
        label: str,
        where: str = "",
        scope: str = "everything",
        sobject: str = "Contact",
        columns: Iterable[str] = ("Name",),
        soql_compatible: bool = True,
    ) -> str:
        """Add a list view; returns its 18-character id."""
        views = self._organisation.list_views
        identifier = ids.make_id("00B", _FIRST_LIST_VIEW_OF_TESTS + len(views))
        developer_name = "".join(letter if letter.isalnum() else "_" for letter in label)
        views[identifier] = ListView(
            identifier, sobject, label, developer_name, where, scope, tuple(columns), soql_compatible=soql_compatible
        )
        return identifier

    def update_list_view(self, id: str, **changes: Any) -> None:
        """Change a list view's where, scope, label or soql_compatible."""
        views = self._organisation.list_views
        views[ids.lengthen(id)] = replace(views[ids.lengthen(id)], **changes)

    def delete_list_view(self, id: str) -> None:
        """Delete a list view."""
        del self._organisation.list_views[ids.lengthen(id)]

    def unshare_list_view(self, id: str, username: str | None = None) -> None:
        """Hide a list view from a user."""
        views = self._organisation.list_views
        views[ids.lengthen(id)] = views[ids.lengthen(id)].hide_from(self._user(username).username)

    def share_list_view(self, id: str, username: str | None = None) -> None:
        """Share a list view with a user again."""
        views = self._organisation.list_views
        views[ids.lengthen(id)] = views[ids.lengthen(id)].share_with(self._user(username).username)

    def change_app(self, **changes: Any) -> None:
        """Change the connected app: blocked, installed, run_as, approved_users, rotates_refresh_tokens …"""
        for name, value in changes.items():
            _set(self._organisation.app, name, set(value) if name == "approved_users" and value is not None else value)

    def change_user(self, username: str | None = None, **changes: Any) -> None:
        """Change a user: active, api_enabled, may_login_by_soap, login_refused_because, password, security_token …"""
        user = self._user(username)
        for name, value in changes.items():
            _set(user, name, value)

    def expire_sessions(self) -> None:
        """End every session."""
        self._state.sessions.expire_all()

    def revoke_refresh_tokens(self) -> None:
        """Void every refresh token."""
        self._state.sessions.revoke_refresh_tokens()

    def advance_clock(self, seconds: float) -> str:
        """Move the clock; returns the new time."""
        self._organisation.clock.advance(seconds)
        return self.now()

    def set_clock(self, moment: str) -> str:
        """Set the clock; returns the new time."""
        self._organisation.clock.set(datetime.fromisoformat(moment))
        return self.now()

    def now(self) -> str:
        """The organisation's time."""
        return self._organisation.clock.now().isoformat()

    def change_options(self, **changes: Any) -> None:
        """Change how the organisation answers, see `options.Options`."""
        self._state.change_options(**changes)

    def add_fault(
        self,
        do: str,
        path: str = "",
        method: str = "",
        nth: int = 1,
        times: int = 1,
        values: dict[str, Any] | None = None,
    ) -> None:
        """Add a line to the fault script, see `faults.Fault`."""
        self._state.script.add(Fault(do, path, method, nth, times, values or {}))

    def faults(self) -> list[dict[str, Any]]:
        """The fault script: what each line does, and how often it made a difference."""
        return self._state.script.told()

    def clear_faults(self) -> None:
        """Forget the fault script."""
        self._state.script.clear()

    def calls(self) -> dict[str, Any]:
        """Counts of calls by kind and of bytes, and the last calls."""
        calls = self._state.calls
        log = [vars(record) for record in calls.log]
        return {"total": sum(calls.by_kind.values()), "by_kind": dict(calls.by_kind), "bytes": calls.bytes, "log": log}

    def forget_calls(self) -> None:
        """Count from zero."""
        self._state.calls.__init__()  # type: ignore[misc]

    def start_again(self) -> None:
        """Bring everything back to how it was when the simulator started."""
        self._state.start_again()

    def _user(self, username: str | None) -> Any:
        return self._organisation.users[username] if username else self._organisation.integration_user


def _set(thing: Any, name: str, value: Any) -> None:
    if name not in thing.__dataclass_fields__:
        raise ValueError(f"no such property: {name}")
    setattr(thing, name, value)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


class ControlClient:
    """The control API over the wire: every verb of `Control` is a method here, with keyword arguments.

    >>> sim.control.update(sobject="Contact", ids=[contact], values={"Email": "new@example.org"})  # doctest: +SKIP
    """

    def __init__(self, url: str, token: str, ca_file: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file
        self._session.headers["X-Simulator-Token"] = token

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_") or not hasattr(Control, verb):
            raise AttributeError(verb)

        def call(**arguments: Any) -> Any:
            answer = self._session.post(f"{self._url}/control/{verb}", json=arguments, timeout=300)
            content = answer.json()
            if not answer.ok:
                raise ValueError(content["error"])
            return content

        return call

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
