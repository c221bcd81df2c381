"""A tool that cannot take part is a line of the table with its reason, and the others go on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from tests.benchmark.peers.__main__ import HEADINGS, Result, try_contestant
from tests.benchmark.peers.contestants import Peer
from tests.benchmark.stage import CommandFailed, Stage


class Refusing:
    """Stands for the stage: the first thing that is asked of it goes wrong."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    @property
    def control(self) -> Any:
        raise self.failure


def make_peer(environments: Path, packages: Mapping[str, Sequence[str]]) -> Peer:
    return Peer(
        "some tool", environments / "with_tool.py", "public.contact", "a note", packages, ["tool"], environments
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            psycopg.errors.UndefinedTable('relation "contact" does not exist\nLINE 1: SELECT …\n               ^'),
            'relation "contact" does not exist',
        ),
        (CommandFailed("ended with 1\nDEBUG starting\nError: no licence\nbye"), "Error: no licence"),
        (CommandFailed('ended with 1\nError: {"access_token": "secret"}'), "ended with 1"),
    ],
)
def test_a_tool_that_fails_is_listed_with_the_reason_but_no_secret(
    tmp_path: Path, failure: Exception, reason: str
) -> None:
    result = try_contestant(cast(Stage, Refusing(failure)), make_peer(tmp_path, {}), runs=1)
    assert result.failure == reason
    assert result.remark() == f"could not run: {reason}; a note"


def test_a_tool_that_failed_has_no_figures() -> None:
    cells = Result("some tool", "tool 1", "a note", "no licence").cells()
    assert len(cells) == len(HEADINGS)
    assert cells[2:] == [*["–"] * 5, "could not run"]
