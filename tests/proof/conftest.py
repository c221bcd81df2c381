"""The scorecard of `make prove`: what each proof tried, how often, and which interesting cases really occurred.

A proof that tried nothing, or never met a case that it names, has proven nothing, and fails. One that cannot be tried on
this machine is skipped, and the scorecard says so and why.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

from include.contact_sync import reread
from tests.whole_runs import demo, mailbox, organisation, running_demo, running_organisation

__all__ = ["demo", "mailbox", "organisation", "running_demo", "running_organisation"]


@dataclass
class Score:
    """What one proof has done."""

    proof: str
    tried: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    expected: list[str] = field(default_factory=list)
    not_tried: str = ""

    def expect(self, cases: Iterable[str]) -> None:
        """Cases each of which must occur at least once."""
        self.expected += cases

    def cannot_be_tried(self, why: str) -> NoReturn:
        """Skip the proof; a reader of the scorecard must see that nothing stands behind it."""
        self.not_tried = why
        pytest.skip(why)

    @property
    def never_met(self) -> list[str]:
        return [case for case in self.expected if not self.met[case]]

    def lines(self) -> Iterator[str]:
        yield f"{self.proof}"
        if self.not_tried:
            yield f"    not tried: {self.not_tried}"
            return
        yield from (f"    {count:>9,} {what}" for what, count in self.tried.items())
        cases = dict.fromkeys([*self.expected, *self.met])
        yield from (f"        {self.met[case]:>9,} x {case}" for case in cases)


@pytest.fixture(autouse=True)
def read_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records hardly ever are as they were; and yet what was read earlier is put together with what is read now."""
    monkeypatch.setattr(reread, "MOST_DIFFERING", 1)


SCORES = pytest.StashKey[list[Score]]()


@pytest.fixture
def score(request: pytest.FixtureRequest) -> Iterator[Score]:
    """Where a proof writes down what it does."""
    score = Score(request.node.name.removeprefix("test_").replace("_", " "))
    request.config.stash.setdefault(SCORES, []).append(score)
    yield score
    if score.not_tried or request.node.stash.get(FAILED, False):
        return
    assert sum(score.tried.values()), "this proof tried nothing"
    assert not score.never_met, f"never occurred: {', '.join(score.never_met)}"


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    scores = config.stash.get(SCORES, [])
    if scores:
        terminalreporter.section("scorecard")
        for score in scores:
            for line in score.lines():
                terminalreporter.write_line(line)
