"""What a seeded defect is: a patch of the product, the invariant that it breaks, and the check that must catch it.

A defect is caught only where that very check fails with its own assertion, or where the product itself refuses
with the error that is named. A patch that merely makes something fall over (a TypeError, another check) proves
nothing, and so does a patch that changes nothing.
"""

import inspect
import linecache
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pytest

from include.contact_sync import load
from include.contact_sync.errors import RunError, RunRefused, StoreRefused
from include.contact_sync.store import connection, error_book, records, runs, settings_versions, store_copy
from tests.proof.conftest import Score

Plant = Callable[[pytest.MonkeyPatch], None]
Scene = Callable[..., None]
"""A proof, or a part of one. Its parameters are fixtures; `wanted` is the check that must fail, None where none may."""

TESTS = Path(__file__).parents[2]


class Invariant(StrEnum):
    """What the proofs claim, each with the part that makes the claim. Every one of them needs a seeded defect."""

    SPECIFIED = "matching: outcome, code, holders and store are those of the specification"
    ONE_HANDLE_ONE_CONTACT = "matching: one handle one contact, one link one contact"
    BALANCED = "matching: read = created + linked + updated + unchanged + error, by count and set of ids"
    NOBODY_SKIPPED_IN_VAIN = "matching: no skipped contact could be synced against the end state"
    SECOND_RUN = "matching: a second run changes nothing"
    ANY_ORDER = "matching: any order of the rows gives the same result"
    ANY_PAGES = "matching: any size of the pages gives the same result"
    ANY_PORTIONS = "applying: any size of the portions gives the same result"
    UNRELATED = "matching: an unrelated contact more changes nothing else"
    IN_SQL = "applying: what must hold in every store after every run"
    WRITTEN = "applying: what is written is what was decided, and no row is written twice"
    WHOLE_OR_NOT = "applying: all of a part or nothing"
    LIFE_AS_SPECIFIED = "a life: every run does what the rules say"
    PERSONS_EDITS = "a life: what people wrote is never lost"
    FAILED_RUNS = "a life: a run that fails changes nothing"
    DRY_RUNS = "a life: a dry run changes nothing"
    REPEATED_RUNS = "a life: a run that is repeated changes nothing"
    WINDOWS = "windows: a run takes who was stamped from its window's start until before its end, and nobody else"
    SILENT_WINDOWS = "windows: a run says nothing of what it did not read"
    WHOLE_ACCOUNTS = "windows: accounts are read whole"
    LIMITED_WINDOWS = "windows: the limit is counted on who was stamped in the window"
    DEATHS = "crashes: a run that died and is tried again ends as if nothing had happened"
    TAKEN_OVER = "crashes: a run that died for good is taken over"
    STAGED_LOSS = "crashes: staged records that are lost stop the run"
    NO_SECOND_MAIL = "crashes: no second e-mail for the same report"
    NO_LOST_MAIL = "crashes: no e-mail is lost"
    RECOVERS = "Salesforce: what can pass is recovered from, with the undisturbed result"
    RIGHT_CODE = "Salesforce: a run that fails says why, with the right code"
    FAILS_WHOLE = "Salesforce: a run that fails has changed nothing"
    CHANGES_NOTICED = "Salesforce: what administrators change is noticed"
    TOO_LARGE = "Salesforce: a source that is too large changes nothing"
    NO_LOST_EDIT = "concurrent edits: none is lost, and the result is that of the store as it was"
    NO_FAILED_RUN = "concurrent edits: none makes the run fail"
    NO_DEADLOCK = "concurrent edits: none waits for ever or is broken off"
    ONE_RUN = "concurrent edits: of runs that start at once one works, the others say which"
    TEXT_SURVIVES = "values: text arrives as it was sent"
    NUL = "values: a NUL is removed and nothing else"
    IDS = "values: ids that differ only in case are different people"
    EMAILS = "values: every e-mail address becomes a handle or is reported"
    PHONES = "values: a phone number is one handle however it is typed"
    HARMLESS_MAIL = "values: neither the mail nor its attachment can be made to run anything"


@dataclass(frozen=True)
class Defect:
    """`caught_by` is a part of what `failed_checks` says of the check that must fail in the scene."""

    what: str
    invariant: Invariant
    plant: Plant
    scene: Scene
    caught_by: str


# -------------------------------------------------------------------------------------------------------- planting


def instead(owner: Any, name: str, defect: Callable[[Any], Any]) -> Plant:
    """Put `defect(original)` where `owner.name` was."""
    return lambda patch: patch.setattr(owner, name, defect(getattr(owner, name)))


def every(*plants: Plant) -> Plant:
    """Several patches that are one defect."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for each in plants:
            each(patch)

    return plant


MODULES_WITH_STATEMENTS = (error_book, load, records, runs, settings_versions, store_copy)


def statement(name: str, was: str, becomes: str) -> Plant:
    """Put another text where `sql/<name>.sql` says `was`."""

    def read(wanted: str) -> str:
        text: str = connection.sql(wanted)
        if wanted != name:
            return text
        assert was in text, f"{name}.sql no more says: {was}"
        return text.replace(was, becomes)

    def plant(patch: pytest.MonkeyPatch) -> None:
        read(name)
        for module in MODULES_WITH_STATEMENTS:
            patch.setattr(module, "sql", read)

    return plant


def without(original: Any) -> Any:
    """Nothing is done in its place."""
    return lambda *_, **__: None


def always(value: Any) -> Callable[[Any], Any]:
    """The same answer, whatever is asked."""
    return lambda _: lambda *_, **__: value


# ---------------------------------------------------------------------------------------------------------- catching


class Broken(AssertionError):
    """Checks with names of their own that did not hold, all of them."""

    def __init__(self, checks: Iterable[str]) -> None:
        self.checks = sorted(set(checks))
        super().__init__("; ".join(self.checks))


REFUSALS = (RunError, RunRefused, StoreRefused)
FAILURES = (AssertionError, pytest.fail.Exception, *REFUSALS)


def failed_checks(failure: BaseException) -> list[str]:
    """The checks whose own failure this is: their names, or `function: the line of the assertion`, or the refusal.

    None where the assertion is not one of the tests'.
    """
    if isinstance(failure, Broken):
        return failure.checks
    if isinstance(failure, REFUSALS):
        return [f"{type(failure).__name__}: {failure}"]
    frames = [(frame.f_code, line) for frame, line in walk_tb(failure.__traceback__)]
    while "_pytest" in Path(frames[-1][0].co_filename).parts:  # pytest.raises
        frames.pop()
    code, line = frames[-1]
    if not Path(code.co_filename).is_relative_to(TESTS):
        return []
    return [f"{code.co_qualname}: {linecache.getline(code.co_filename, line).strip()}"]


def play(scene: Scene, fixture: Callable[[str], Any], wanted: str | None) -> None:
    """Let a scene happen, with a score that nobody looks at and patches that are gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        own = {"score": Score("a scene"), "wanted": wanted, "monkeypatch": patch}
        scene(**{name: own[name] if name in own else fixture(name) for name in inspect.signature(scene).parameters})


def catch(defect: Defect, fixture: Callable[[str], Any]) -> list[str]:
    """The checks that caught the defect.

    Raises:
        AssertionError: nobody noticed it, or not who should have.
    """
    for name in inspect.signature(defect.scene).parameters.keys() - {"score", "wanted", "monkeypatch"}:
        fixture(name)  # what the scene finds there was made by a product without the defect
    try:
        with planted(defect):
            play(defect.scene, fixture, defect.caught_by)
    except FAILURES as failure:
        checks = failed_checks(failure)
        if not any(defect.caught_by in check for check in checks):
            raise AssertionError(f"{defect.what}: caught by {checks or 'nothing that is a check'}") from failure
        return checks
    raise AssertionError(f"nobody noticed: {defect.what}")


SEEDED_DEFECT = "CONTACT_SYNC_SEEDED_DEFECT"
"""The environment variable by which the defect gets to processes that die."""


@contextmanager
def planted(defect: Defect) -> Generator[None, None, None]:
    """The defect is in the product, in this process and in those that `dying` starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SEEDED_DEFECT, defect.what)
        defect.plant(patch)
        yield
