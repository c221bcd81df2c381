"""The steps of a run, one function each, in the order in which they are told (see the rules).

The DAG's tasks and `python -m include.contact_sync run` call the same functions. A step leaves its rows in the
staging place and its receipt in the run's record, where the next step finds them: counts, seconds, the fields that
exist; no personal data. Any step can be repeated: what it staged is written again, what it applied is found applied.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, overload

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.arrays import one_piece
from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.conclude import RunReport, conclude_run, record_run_error, remove_staged_data
from include.contact_sync.errors import AnotherRunIsActive, RunError, RunRefused, StoreRefused, StoreUnavailable
from include.contact_sync.extract import extract_accounts, extract_contacts
from include.contact_sync.load import PlannedPart, apply_plan
from include.contact_sync.match import StoredRecords, match
from include.contact_sync.memory import forget_peak, peak_mb
from include.contact_sync.plan import Plan
from include.contact_sync.reread import Earlier, comes_from, marked, origin, transform_what_differs
from include.contact_sync.salesforce import Salesforce
from include.contact_sync.settings import Settings
from include.contact_sync.staging import Compression, RunStaging, StagedParts, Staging
from include.contact_sync.store import error_book, runs, settings_versions
from include.contact_sync.store.connection import (
    Moment,
    connect,
    one_moment,
    own_transaction,
    session_is_gone,
    unavailable,
)
from include.contact_sync.store.migrations import migrate
from include.contact_sync.store.records import (
    Fingerprint,
    read_fingerprint,
    read_linked_accounts,
    read_stored_records,
)
from include.contact_sync.store.runs import Run
from include.contact_sync.store.store_copy import CopyOrigin, StoreCopy, most_newer, read_newer
from include.contact_sync.transform import (
    ERRORS_SCHEMA,
    HANDLES_SCHEMA,
    UNREADABLE_SCHEMA,
    CleanRecords,
)

log = logging.getLogger(__name__)

Receipt = dict[str, Any]

WRITERS = 2
"""Staged tables that are written at the same time."""

_STORE_COPY = "contacts/store_copy"
_UNTOLD = {"fingerprint", "store_copy"}
"""What says nothing to a person."""

SIGN_OF_LIFE = 30.0
"""Seconds between two renewals of the lease during a long step."""


@dataclass(frozen=True)
class RunRequest:
    """Who asked for a run, and how.

    Attributes:
        trigger: what started it.
        triggered_by: the person's name as Airflow knows it, where there is one.
        notify: one more address that gets the e-mail.
        window: what a backfill is limited to (rule 1.3).
        settings: settings to use instead of the newest saved version.
    """

    trigger: Literal["schedule", "manual", "backfill"] = "manual"
    dag_run_id: str | None = None
    triggered_by: str | None = None
    notify: str | None = None
    dry_run: bool = False
    window: tuple[datetime, datetime] | None = None
    settings: Settings | None = None


# ------------------------------------------------------------------------------------------------------ the steps


def validate_settings(request: RunRequest) -> int:
    """Bring the store up to date, open the run, and make sure of settings and login; returns the run's id.

    Raises:
        AnotherRunIsActive: the store is taken by a run that is alive.
        RunError: `settings_invalid`, or what Salesforce answered to the login.
    """
    with connect() as connection:
        migrate(connection)
        version, settings = _chosen_settings(connection, request)
        run = runs.open_run(
            connection,
            dag_run_id=request.dag_run_id,
            trigger=request.trigger,
            triggered_by=request.triggered_by,
            notify=request.notify,
            settings_version=version,
            settings=settings,
            dry_run=request.dry_run,
            window=request.window,
        )
    with _step(run.id, "validate_settings", "run") as step:
        days = step.run.settings.staged_data_days
        removed = Staging.from_environment().remove_older_than(days, datetime.now(UTC))
        with Salesforce.connect() as salesforce:
            step.facts |= {"salesforce_url": salesforce.url, "removed_runs": removed}
        version_text = f"settings version {version}" if version else "settings from a file"
        log.info("Run %d uses %s%s", run.id, version_text, " and writes nothing (dry run)" if run.dry_run else "")
        if not run.dry_run:
            _close_errors_of_earlier_logins(run)
    return run.id


def sync_accounts(run_id: int) -> Receipt:
    """Read, match and load the accounts, in one go: they are few. Returns the outcome counts."""
    with _step(run_id, "sync_accounts", "accounts") as step:
        if step.run.accounts_applied_at:
            log.info("The accounts of run %d were applied already", run_id)
            return dict(step.run.accounts or {})
        with Salesforce.connect() as salesforce:
            extraction = asdict(extract_accounts(salesforce, step.run.settings, step.staging, step.progress))
        columns = _columns(Part.ACCOUNTS, step.run, extraction)
        clean = _transform(step, columns, extraction)
        planned = _plan(step, columns, clean)
        _write_tables(step.staging, "accounts/plan", planned.plan, "zstd")
        counts = _finish_part(step, columns, clean, planned)
        step.facts |= counts
        return counts


def extract_contacts_of_source(run_id: int) -> Receipt:
    """Download the source contacts into the staging place; returns what was read and how."""
    with _step(run_id, "extract_contacts", "contacts") as step:
        settings = step.run.settings
        linked = (
            one_piece(_linked_accounts(step)["external_id"]) if settings.contacts.source == "synced_accounts" else None
        )
        with Salesforce.connect() as salesforce:
            extraction = asdict(
                extract_contacts(
                    salesforce, settings, step.staging, step.progress, linked_accounts=linked, window=step.run.window
                )
            )
        step.facts |= extraction
    return _told(extraction)


def transform_contacts(run_id: int) -> Receipt:
    """Read the snapshot's values into clean records, handles and warnings; returns their counts."""
    with _step(run_id, "transform_contacts", "contacts") as step:
        extraction = step.run.steps["extract_contacts"]
        columns = _columns(Part.CONTACTS, step.run, extraction)
        clean = _transform(step, columns, extraction)
        step.facts |= {
            "records": clean.records.num_rows,
            "handles": clean.handles.num_rows,
            "warnings": clean.warnings.num_rows,
        }
        return _told(step.facts)


def match_contacts(run_id: int) -> Receipt:
    """Decide which contact each source contact belongs to; returns the planned counts."""
    with _step(run_id, "match_contacts", "contacts") as step:
        columns = _columns(Part.CONTACTS, step.run, step.run.steps["extract_contacts"])
        planned = _plan(step, columns, _read_tables(step.staging, f"{columns.part}/clean", CleanRecords))
        _write_tables(step.staging, "contacts/plan", planned.plan, "zstd")  # a first plan is as large as all before
        step.facts |= planned.plan.counts() | {"fingerprint": planned.fingerprint}
        return planned.plan.counts()


def load_contacts(run_id: int) -> Receipt:
    """Apply the plan in one transaction (a dry run only counts it); returns the outcome counts."""
    with _step(run_id, "load_contacts", "contacts") as step:
        if step.run.contacts_applied_at:
            log.info("The contacts of run %d were applied already", run_id)
            return dict(step.run.contacts or {})
        columns = _columns(Part.CONTACTS, step.run, step.run.steps["extract_contacts"])
        plan = _read_tables(step.staging, "contacts/plan", Plan)
        planned = PlannedPart(plan, step.run.steps["match_contacts"]["fingerprint"])
        counts = _finish_part(step, columns, _ids_and_warnings(step.staging), planned)
        step.facts |= counts
        return counts


@overload
def find_run(dag_run_id: str) -> int: ...
@overload
def find_run(dag_run_id: str, *, must_exist: bool) -> int | None: ...
def find_run(dag_run_id: str, *, must_exist: bool = True) -> int | None:
    """The run that a DAG run opened, the latest where it was cleared and ran again; None where it never got so far.

    Raises:
        RunRefused: there is none, and the caller cannot do without.
    """
    with connect() as connection:
        run = runs.run_of_dag_run(connection, dag_run_id)
    if run is None and must_exist:
        raise RunRefused(f"The DAG run {dag_run_id} has opened no run in this store; trigger a new one")
    return run.id if run else None


def outcome_counts(run_id: int) -> Receipt:
    """Per part the outcome counts of a run."""
    with connect() as connection:
        run = runs.load_run(connection, run_id)
    return {"run_id": run_id, "accounts": run.accounts, "contacts": run.contacts}


def run_all_steps(request: RunRequest) -> RunReport | None:
    """One whole run in this process, without Airflow; None where the run could not even be opened.

    A step that fails ends the run as a failed task ends a DAG run; why is in the report.
    """
    assert request.dag_run_id is not None
    try:
        run_id = validate_settings(request)
        if is_enabled(run_id, Part.ACCOUNTS):
            sync_accounts(run_id)
        if is_enabled(run_id, Part.CONTACTS):
            extract_contacts_of_source(run_id)
            transform_contacts(run_id)
            match_contacts(run_id)
            load_contacts(run_id)
    except AnotherRunIsActive:
        raise
    except (RunError, RunRefused, StoreRefused) as error:
        log.error("%s", error)  # ruff: ignore[error-instead-of-exception] -- the report tells it; a traceback would not help
    except BaseException:
        with suppress(StoreUnavailable, psycopg.Error):  # what stopped the run is more to the point
            if (stopped := find_run(request.dag_run_id, must_exist=False)) is not None:
                conclude_run(stopped)  # the next run need not wait until this one counts as dead
        raise
    opened = find_run(request.dag_run_id, must_exist=False)
    if opened is None:
        return None
    concluded = conclude_run(opened)
    remove_staged_data(concluded.run)  # no mail follows
    return concluded


def is_enabled(run_id: int, part: Part) -> bool:
    """Whether the run's settings ask for `part` (rule 1.4)."""
    with connect() as connection:
        settings = runs.load_run(connection, run_id).settings
    return settings.accounts.enabled if part is Part.ACCOUNTS else settings.contacts.enabled


# ---------------------------------------------------------------------------------------------------- within a step


@dataclass
class _Step:
    run: Run
    name: str
    staging: RunStaging
    facts: Receipt
    _last_sign: float

    def progress(self, line: str) -> None:
        """Log how far a long step is, and let the run live on."""
        log.info("%s: %s", self.name, line)
        if time.monotonic() - self._last_sign > SIGN_OF_LIFE:
            with connect() as connection:
                runs.keep_alive(connection, self.run.id)
            self._last_sign = time.monotonic()


@contextmanager
def _step(run_id: int, name: str, part: Literal["run", "accounts", "contacts"]) -> Generator[_Step, None, None]:
    """One step of a run: renews its lease, records how long it took and how much memory, and why it failed."""
    started = time.monotonic()
    forget_peak()
    with connect() as connection:
        run = runs.resume_run(connection, run_id)
    step = _Step(run, name, Staging.from_environment().run(run_id), {}, started)
    try:
        yield step
    except RunError as error:
        with connect() as connection:
            record_run_error(connection, run, part, error)
        raise
    except psycopg.OperationalError as failure:
        if session_is_gone(failure):
            raise unavailable(failure) from failure
        raise
    pa.default_memory_pool().release_unused()  # or the next step of the same process has it on top of its own
    measured = {
        "seconds": round(time.monotonic() - started, 3),
        "peak_mb": peak_mb(),
    }
    with connect() as connection:
        runs.record_step(connection, run_id, name, measured | step.facts)
    told = ", ".join(f"{fact} {value}" for fact, value in _told(step.facts | measured).items())
    log.info("Run %d %s: %s", run_id, name, told)


def _told(facts: Receipt) -> Receipt:
    """What of a receipt a person reads: the plain figures."""
    return {
        name: value for name, value in facts.items() if isinstance(value, int | float | str) and name not in _UNTOLD
    }


def _close_errors_of_earlier_logins(run: Run) -> None:
    """What stopped earlier runs before they came to any part stops this one no longer."""
    with connect() as connection, own_transaction(connection) as cursor:
        error_book.close_run_errors(cursor, run.id, "run")


def _chosen_settings(connection: Any, request: RunRequest) -> tuple[int | None, Any]:
    """The settings to use; those of an older release that are no longer valid, as they were saved."""
    if request.settings is not None:
        return None, request.settings
    return settings_versions.load_as_saved(connection)


def _columns(part: Part, run: Run, extraction: Receipt) -> Columns:
    return resolve_columns(part, run.settings, extraction["field_types"], extraction["missing_fields"])


def _snapshot(step: _Step, part: Part, extraction: Receipt) -> StagedParts:
    """What was downloaded, all of it: records that were lost would be taken to have left the source (rules 2.6 and 6.4)."""
    snapshot = step.staging.open_parts(f"{part}/snapshot")
    staged = len(snapshot["Id"])
    if staged != extraction["read"]:
        raise RunRefused(
            f"{extraction['read']} {part} were read from Salesforce, {staged} of them are staged; start a new run"
        )
    return snapshot


def _transform(step: _Step, columns: Columns, extraction: Receipt) -> CleanRecords:
    """Stage what the snapshot's values are read as."""
    snapshot = _snapshot(step, columns.part, extraction)
    clean, newly_read = transform_what_differs(snapshot, columns, lambda: _read_earlier(step, columns))
    clean = marked(clean, origin(columns, step.staging.checksum(f"{columns.part}/snapshot")))
    _write_tables(step.staging, f"{columns.part}/clean", clean)
    step.facts |= {"newly_read": newly_read}
    return clean


def _read_earlier(step: _Step, columns: Columns) -> Earlier | None:
    """What the last run over the whole source was sent and read.

    None where there is none, or where it was read in another way or not from what stands beside it.
    """
    with connect() as connection:
        run_id = runs.last_whole_transform(connection, step.run.id, step.name)
    if run_id is None:
        return None
    staging = Staging.from_environment().run(run_id)
    folder = f"{columns.part}/snapshot"
    checksum = staging.checksum(folder)  # before the files are read, so that those of another snapshot do not fit
    clean = _read_tables(staging, f"{columns.part}/clean", CleanRecords)
    if not comes_from(clean, origin(columns, checksum)):
        log.info("What run %d read was read in another way, everything is read anew", run_id)
        return None
    earlier = Earlier(staging.open_parts(folder), clean)
    return earlier if staging.checksum(folder) == checksum else None


def _plan(step: _Step, columns: Columns, clean: CleanRecords) -> PlannedPart:
    """Judge against the store as it is at one moment; its fingerprint is made out meanwhile."""
    with one_moment() as moment, ThreadPoolExecutor(1, thread_name_prefix="fingerprint") as beside:
        origin = CopyOrigin.at(moment, columns) if columns.part is Part.CONTACTS else None
        fingerprint = beside.submit(read_fingerprint, columns.part, moment)
        stored = _read_newer(step, columns, moment, origin, fingerprint.result) if origin else None
        is_whole = stored is None
        stored = stored or _read_stored(step, columns, moment)
        plan = _match(step, columns, clean, _as_planned(step, columns, stored))
        if origin and is_whole:
            _keep_copy(step, stored, origin, plan)
        return PlannedPart(plan, fingerprint.result().text)


def _judge_again(step: _Step, columns: Columns) -> Plan:
    clean = _read_tables(step.staging, f"{columns.part}/clean", CleanRecords)
    return _match(step, columns, clean, _as_planned(step, columns, _read_stored(step, columns)))


def _read_stored(step: _Step, columns: Columns, moment: Moment | None = None) -> StoredRecords:
    return read_stored_records(columns, _merges(step, columns), moment)


def _merges(step: _Step, columns: Columns) -> pa.Table:
    return step.staging.read(f"{columns.part}/merges")


def _as_planned(step: _Step, columns: Columns, stored: StoredRecords) -> StoredRecords:
    """In a dry run the accounts part has only said what it would link."""
    if step.run.dry_run and columns.part is Part.CONTACTS:
        return replace(stored, accounts=_linked_accounts(step))
    return stored


def _read_newer(
    step: _Step, columns: Columns, moment: Moment, origin: CopyOrigin, fingerprint: Callable[[], Fingerprint]
) -> StoredRecords | None:
    """What is stored, made of the copy that an earlier run kept and of what is newer; None where that cannot be."""
    with connect() as connection:
        found = runs.last_store_copy(connection, step.run.id)
    if found is None:
        return None
    run_id, token = found
    try:
        staging = Staging.from_environment().run(run_id)
        copy = StoreCopy(*(staging.open(f"{_STORE_COPY}/{field.name}") for field in fields(StoreCopy)))
    except (RunRefused, OSError, pa.ArrowException) as lost:
        log.info("The copy of the store cannot be used, everything is read: %s", lost)
        return None
    # A store that was set back does not know the run, or knows another one of this number.
    if copy.origin is None or copy.origin.token != token or not copy.origin.precedes(origin):
        log.info("The copy of the store that run %d kept is not one of this store, everything is read", run_id)
        return None
    return read_newer(copy, columns, _merges(step, columns), moment, fingerprint)


def _keep_copy(step: _Step, stored: StoredRecords, origin: CopyOrigin, plan: Plan) -> None:
    """Keep what was read for later runs, unless so much is about to change that they would read everything anyway."""
    if plan.writes.num_rows > most_newer(stored.records.num_rows):
        return
    copy = StoreCopy.of(stored, origin)
    if copy is None:
        return
    try:
        _write_tables(step.staging, _STORE_COPY, copy)
    except OSError as failure:
        log.warning("No copy of the store can be kept, the next run reads everything: %s", failure)
    else:
        step.facts |= {"store_copy": origin.token}


def _match(step: _Step, columns: Columns, clean: CleanRecords, stored: StoredRecords) -> Plan:
    plan = match(clean, stored, columns, whole_source=step.run.window is None or columns.part is Part.ACCOUNTS)
    log.info("%s: %s", columns.part, ", ".join(f"{count} {outcome}" for outcome, count in plan.counts().items()))
    return plan


def _finish_part(step: _Step, columns: Columns, clean: CleanRecords, planned: PlannedPart) -> dict[str, int]:
    field_errors = _field_errors(columns.missing_fields)
    if step.run.dry_run:
        step.staging.write(f"{columns.part}/field_errors", field_errors)
        counts = planned.plan.counts()
        with connect() as connection:
            runs.record_counts(connection, step.run.id, columns.part.value, counts)
        return counts
    return apply_plan(
        step.run.id,
        clean,
        columns,
        planned,
        lambda: _judge_again(step, columns),
        lambda: read_fingerprint(columns.part).text,
        field_errors=field_errors,
        whole_source=step.run.window is None or columns.part is Part.ACCOUNTS,
    )


def _field_errors(missing: Iterable[str]) -> pa.Table:
    rows = [{"code": "field_not_found", "level": "run", "salesforce_field": name, "holders": "[]"} for name in missing]
    return pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA)


def _linked_accounts(step: _Step) -> pa.Table:
    """The linked accounts; in a dry run also those that the accounts part would link, with ids below zero."""
    linked = read_linked_accounts()
    if not step.run.dry_run or not step.staging.exists("accounts/plan/outcomes"):
        return linked
    planned = step.staging.read("accounts/plan/outcomes", ["external_id", "id", "outcome"])
    planned = planned.filter(pc.is_in(planned["outcome"], pa.array(["created", "linked"])))
    ids = [known if known is not None else -1 - at for at, known in enumerate(planned["id"].to_pylist())]
    return pa.concat_tables(
        [linked, pa.table({"id": pa.array(ids, pa.int64()), "external_id": planned["external_id"]})]
    )


def _write_tables(staging: RunStaging, folder: str, tables: Any, compression: Compression = "lz4") -> None:
    names = [field.name for field in fields(tables)]
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="stage") as writers:
        [*writers.map(lambda name: staging.write(f"{folder}/{name}", getattr(tables, name), compression), names)]


def _read_tables(staging: RunStaging, folder: str, kind: Any) -> Any:
    return kind(*(staging.read(f"{folder}/{field.name}") for field in fields(kind)))


def _ids_and_warnings(staging: RunStaging) -> CleanRecords:
    """What a load needs of the clean contacts; their values and handles stand in the plan, and memory is short."""
    return CleanRecords(
        staging.read("contacts/clean/records", ["external_id"]),
        HANDLES_SCHEMA.empty_table(),
        UNREADABLE_SCHEMA.empty_table(),
        staging.read("contacts/clean/warnings"),
    )
