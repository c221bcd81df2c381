"""The organisation: its records, users, connected app and list views, and what people do to them.

Edits go through here so that they stamp as Salesforce does: `SystemModstamp` at one second, deletes that keep the
record, merges that leave losers with `MasterRecordId`, children that follow their account. Reading is `evaluate`.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from include.salesforce_simulator import ids
from include.salesforce_simulator import schema as schemas
from include.salesforce_simulator.answers import Refusal, not_found
from include.salesforce_simulator.clock import Clock
from include.salesforce_simulator.list_views import ListView
from include.salesforce_simulator.table import Table

ORGANISATION_ID = ids.make_id("00D", 1)
RECYCLE_BIN = timedelta(days=15)
_FIRST_SERIAL_OF_EDITS = 900_000_000


@dataclass
class User:
    """A user with the permissions that matter to an integration."""

    id: str
    username: str
    name: str
    alias: str
    email: str
    password: str = "correct horse battery"  # ruff: ignore[hardcoded-password-string]  # the simulator's own
    security_token: str = "T0kenOfTheSimulator"  # ruff: ignore[hardcoded-password-string]
    active: bool = True
    api_enabled: bool = True
    may_login_by_soap: bool = True
    login_refused_because: str | None = None
    hidden_fields: dict[str, set[str]] = field(default_factory=dict)

    def hidden(self, sobject: str) -> set[str]:
        """The fields of an object that field-level security keeps from this user."""
        return self.hidden_fields.get(sobject, set())


@dataclass
class ConnectedApp:
    """The app through which an integration logs in. `approved_users` None means everybody."""

    consumer_key: str = "3MVG9SimulatedConsumerKey"
    consumer_secret: str = "SimulatedConsumerSecret"  # ruff: ignore[hardcoded-password-string]
    run_as: str | None = None
    blocked: bool = False
    installed: bool = True
    approved_users: set[str] | None = None
    allows_password_flow: bool = True
    rotates_refresh_tokens: bool = False

    @property
    def private_key(self) -> rsa.RSAPrivateKey:
        """The key pair behind the app's certificate."""
        return _key_pair()

    @property
    def private_key_pem(self) -> str:
        """The private key as an Airflow connection holds it."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


@cache
def _key_pair() -> rsa.RSAPrivateKey:
    """Made when a JWT is first used, since it takes a moment."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Organisation:
    """Everything that is in the organisation."""

    def __init__(self, contacts: Table, accounts: Table, users: Iterable[User], app: ConnectedApp) -> None:
        self.clock = Clock()
        self.users = {user.username: user for user in users}
        self.app = app
        self.list_views: dict[str, ListView] = {}
        self._tables = {"Contact": contacts, "Account": accounts}
        self._serial = _FIRST_SERIAL_OF_EDITS
        self.deletions: dict[str, dict[str, datetime]] = {"Contact": {}, "Account": {}}

    def copy(self) -> "Organisation":
        """The organisation as it is now, for going back to it later."""
        twin = Organisation(
            self._tables["Contact"].copy(),
            self._tables["Account"].copy(),
            deepcopy(list(self.users.values())),
            deepcopy(self.app),
        )
        twin.list_views = dict(self.list_views)
        twin.deletions = deepcopy(self.deletions)
        twin._serial = self._serial
        return twin

    @property
    def integration_user(self) -> User:
        """The user whom the connected app runs as, or the first one."""
        return self.users[self.app.run_as] if self.app.run_as in self.users else next(iter(self.users.values()))

    @property
    def generation(self) -> int:
        """A number that changes with every edit of records or fields."""
        return sum(table.generation for table in self._tables.values())

    def object_names(self) -> list[str]:
        """The objects that exist."""
        return [*self._tables, "User", "Organization", "ListView"]

    def schema(self, sobject: str) -> schemas.ObjectSchema | None:
        """An object by its name, in any case."""
        named = {name.lower(): name for name in self.object_names()}
        name = named.get(sobject.lower())
        return self.table(name).schema if name else None

    def table(self, sobject: str) -> Table:
        """The records of an object."""
        if sobject in self._tables:
            return self._tables[sobject]
        return {"User": self._user_table, "Organization": self._organization_table, "ListView": self._list_view_table}[
            sobject
        ]()

    def find(self, sobject: str, identifier: str) -> int:
        """The row of a record, or NOT_FOUND."""
        row = self.table(sobject).row_of(ids.lengthen(identifier)) if ids.is_id(identifier) else None
        if row is None:
            raise not_found()
        return row

    def create(self, sobject: str, values: Mapping[str, Any], at: datetime | None = None) -> str:
        """Add a record; `at` (also in the past) is when, as with a long transaction that becomes visible late."""
        table = self._tables[sobject]
        self._serial += 1
        identifier = values.get("Id") or ids.make_id(table.schema.prefix, self._serial)
        moment = at or self.clock.now()
        user = self.integration_user.id
        record = {
            "OwnerId": user,
            "CreatedById": user,
            "CreatedDate": moment,
            "IsDeleted": False,
            **self._stamps(moment),
        }
        table.append({**record, **self._proper(sobject, values), "Id": identifier})
        return identifier

    def update(
        self, sobject: str, identifiers: Iterable[str], values: Mapping[str, Any], at: datetime | None = None
    ) -> None:
        """Change records as a user would: it stamps them."""
        proper = self._proper(sobject, values)
        for identifier in identifiers:
            row = self.find(sobject, identifier)
            if self._tables[sobject].value(row, "IsDeleted"):
                raise Refusal(404, "ENTITY_IS_DELETED", "entity is deleted", [])
            self._tables[sobject].edit(row, {**proper, **self._stamps(at or self.clock.now())})

    def delete(self, sobject: str, identifiers: Iterable[str]) -> None:
        """Move records to the recycle bin; an account takes its contacts along."""
        moment = self.clock.now()
        for identifier in identifiers:
            row = self.find(sobject, identifier)
            self._bin(sobject, row, moment)
            if sobject == "Account":
                for child in self._live_children(identifier):
                    self._bin("Contact", child, moment)

    def undelete(self, sobject: str, identifiers: Iterable[str]) -> None:
        """Take records out of the recycle bin; an account brings those contacts back that went with it."""
        for identifier in identifiers:
            row = self.find(sobject, identifier)
            went = self.deletions[sobject].get(ids.lengthen(identifier))
            self._restore(sobject, row)
            if sobject == "Account":
                contacts = self._tables["Contact"]
                for child in contacts.rows_where("AccountId", [ids.lengthen(identifier)]):
                    if self.deletions["Contact"].get(contacts.value(child, "Id")) == went:
                        self._restore("Contact", child)

    def merge(self, sobject: str, winner: str, losers: Iterable[str]) -> None:
        """Merge records: losers are deleted and name their master, their children go to the winner."""
        moment = self.clock.now()
        winner = ids.lengthen(winner)
        table = self._tables[sobject]
        for loser in losers:
            row = self.find(sobject, loser)
            if sobject == "Account":
                for child in self._live_children(loser):
                    self._tables["Contact"].edit(child, {"AccountId": winner, **self._stamps(moment)})
            table.edit(row, {"MasterRecordId": winner})
            self._bin(sobject, row, moment)
        table.edit(self.find(sobject, winner), self._stamps(moment))

    def purge(self, sobject: str, identifiers: Iterable[str]) -> None:
        """Remove records for good, as a hard delete or an emptied recycle bin does."""
        table = self._tables[sobject]
        rows = [self.find(sobject, identifier) for identifier in identifiers]
        for row in rows:
            self.deletions[sobject].setdefault(table.value(row, "Id"), self.clock.now())
        table.remove(rows)

    def purge_recycle_bin(self) -> int:
        """Remove what has been in the recycle bin for 15 days; returns how many."""
        before = self.clock.now() - RECYCLE_BIN
        purged = 0
        for sobject, deletions in self.deletions.items():
            table = self._tables[sobject]
            old = [identifier for identifier, moment in deletions.items() if moment <= before]
            rows = [row for row in map(table.row_of, old) if row is not None and table.value(row, "IsDeleted")]
            table.remove(rows)
            purged += len(rows)
        return purged

    def delete_field(self, sobject: str, name: str) -> None:
        """What an administrator does in Setup."""
        self._tables[sobject].change_schema(self._tables[sobject].schema.without(name))

    def add_field(self, sobject: str, definition: schemas.Field) -> None:
        """What an administrator does in Setup."""
        self._tables[sobject].change_schema(self._tables[sobject].schema.with_field(definition))

    def records(self, sobject: str, *, deleted_too: bool = False) -> pa.Table:
        """Every record with every stored field: for whoever wants to count independently."""
        table = self._tables[sobject]
        stored = [name for name, one in table.schema.fields.items() if one.type != "address" and not one.formula]
        everything = pa.table({name: table.column(name) for name in stored})
        return everything if deleted_too else everything.filter(~everything["IsDeleted"].to_numpy())

    def visible_list_views(self, user: User, sobject: str) -> list[ListView]:
        """The list views of an object that a user can see."""
        return [
            view
            for view in self.list_views.values()
            if view.sobject == sobject and user.username not in view.not_shared_with
        ]

    def list_view(self, user: User, sobject: str, identifier: str) -> ListView:
        """A list view that a user can see; a hidden one is as little there as a deleted one."""
        wanted = ids.lengthen(identifier) if ids.is_id(identifier) else ""
        for view in self.visible_list_views(user, sobject):
            if view.id == wanted:
                return view
        raise not_found()

    def _proper(self, sobject: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values under the fields' own names; a field that is not there is refused."""
        fields = self._tables[sobject].schema.by_lower_name
        for name in values:
            if name.lower() not in fields:
                raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {sobject}")
        return {fields[name.lower()].name: value for name, value in values.items()}

    def _stamps(self, moment: datetime) -> dict[str, Any]:
        return {"SystemModstamp": moment, "LastModifiedDate": moment, "LastModifiedById": self.integration_user.id}

    def _bin(self, sobject: str, row: int, moment: datetime) -> None:
        table = self._tables[sobject]
        self.deletions[sobject][table.value(row, "Id")] = moment
        table.edit(row, {"IsDeleted": True, **self._stamps(moment)})

    def _restore(self, sobject: str, row: int) -> None:
        table = self._tables[sobject]
        self.deletions[sobject].pop(table.value(row, "Id"), None)
        table.edit(row, {"IsDeleted": False, "MasterRecordId": None, **self._stamps(self.clock.now())})

    def _live_children(self, account: str) -> list[int]:
        contacts = self._tables["Contact"]
        return [
            row
            for row in contacts.rows_where("AccountId", [ids.lengthen(account)])
            if not contacts.value(row, "IsDeleted")
        ]

    def _user_table(self) -> Table:
        users = list(self.users.values())
        columns = {
            "Id": [user.id for user in users],
            "Username": [user.username for user in users],
            "Name": [user.name for user in users],
            "Alias": [user.alias for user in users],
            "Email": [user.email for user in users],
            "IsActive": [user.active for user in users],
        }
        return Table(schemas.USER, {name: pa.array(values) for name, values in columns.items()})

    def _organization_table(self) -> Table:
        columns = {"Id": [ORGANISATION_ID], "Name": ["Simulated Organisation"], "IsSandbox": [False]}
        return Table(schemas.ORGANIZATION, {name: pa.array(values) for name, values in columns.items()})

    def _list_view_table(self) -> Table:
        views = list(self.list_views.values())
        columns = {
            "Id": [view.id for view in views],
            "Name": [view.label for view in views],
            "DeveloperName": [view.developer_name for view in views],
            "SobjectType": [view.sobject for view in views],
            "IsSoqlCompatible": pa.array([view.soql_compatible for view in views], pa.bool_()),
        }
        texts = {
            name: values if isinstance(values, pa.Array) else pa.array(values, pa.string())
            for name, values in columns.items()
        }
        return Table(schemas.LIST_VIEW, texts)
