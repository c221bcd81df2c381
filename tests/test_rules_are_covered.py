"""Every rule of the sync has at least one test that names its number, in its name or in its docstring.

A test names rule 3.6 as `test_rule_3_6_…` or `test_rules_2_1_and_3_6_…`, or by "Rule 3.6" in its docstring.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

RULES = {
    "1.1": "one way, nothing is written to Salesforce",
    "1.2": "only contacts and accounts, never leads",
    "1.3": "daily, by hand, and backfills limited to a window",
    "1.4": "a toggle for accounts and one for contacts",
    "1.5": "at most so many source contacts",
    "2.1": "contacts of synced accounts or of a list view",
    "2.2": "all accounts or those of a list view",
    "2.3": "a list view gives its scope and filter",
    "2.4": "a list view that is gone, or whose filter cannot be used",
    "2.5": "no contacts where the accounts part fails",
    "2.6": "who leaves the source stays, and stops syncing",
    "2.7": "ids in their 18-character form",
    "3.1": "the fields of contacts and accounts",
    "3.2": "the Contact Id cannot be mapped",
    "3.3": "a field that is missing is left out",
    "3.4": "mapped fields mirror Salesforce, others are not touched",
    "3.5": "a value that does not fit is a warning",
    "3.6": "one form for numbers, dates and handles",
    "3.7": "text is kept exactly",
    "4.1": "a linked contact is updated",
    "4.2": "a contact is found by handle, or created",
    "4.3": "no handle field, no look-up",
    "4.4": "no handle, no sync",
    "4.5": "never half a contact",
    "4.6": "order, pages and workers do not matter",
    "4.7": "ownership is judged on the end state",
    "4.8": "linked first, then the lower id",
    "4.9": "skip, admit, start again",
    "4.10": "what Salesforce gave is replaced, what a person added is kept",
    "4.11": "links follow merges",
    "4.12": "a second run changes nothing",
    "4.13": "one error per source contact, every holder named",
    "5": "accounts link by domain",
    "6.1": "one transaction per part",
    "6.2": "a person's edit is neither lost nor in the way",
    "6.3": "one run at a time",
    "6.4": "outcomes add up to what was read",
    "6.5": "when each contact was last synced, and what changed",
    "7": "the error catalogue",
    "8.1": "one e-mail, to the right people",
    "8.2": "a failed run says so and fails",
    "8.3": "advice where collisions have a pattern",
    "8.4": "the log tells the story without personal data",
}
TESTS = Path(ROOT / "tests")


def test_functions() -> Iterator[tuple[str, str]]:
    """Name and docstring of every test."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name, ast.get_docstring(node) or ""


test_functions.__test__ = False  # type: ignore[attr-defined]


def rules_named_by(name: str, docstring: str) -> set[str]:
    """The rules that a test names; a whole section is named by its number alone.

    >>> sorted(rules_named_by("test_rules_2_1_and_5_x", "Rules 3.3 and 4.10. Since 1.2 no rule."))
    ['2.1', '3.3', '4.10', '5']
    """
    found = set()
    for run in re.findall(r"rules?_((?:and_|\d+_)+)", f"{name}_"):
        for number in run.split(r"and_"):
            found |= {pair.replace("_", ".") for pair in re.findall(r"\d+(?:_\d+)?", number)}
    for sentence in re.findall(r"[Rr]ules? ((?:\d+(?:\.\d+)?(?:, | and )?)+)", docstring):
        found |= set(re.findall(r"\d+(?:\.\d+)?", sentence))
    return found


@pytest.fixture(scope="module")
def named() -> set[str]:
    return {rule for name, docstring in test_functions() for rule in rules_named_by(name, docstring)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule} {RULES[rule]}")
def test_every_rule_has_a_test_that_names_it(rule: str, named: set[str]) -> None:
    assert rule in named


def test_no_test_names_a_rule_that_there_is_not(named: set[str]) -> None:
    sections = {rule.partition(".")[0] for rule in RULES}
    assert named - RULES.keys() - sections == set()


@pytest.mark.parametrize(
    ("name", "docstring", "rules"),
    [
        ("test_rule_3_6_an_email_is_trimmed", "", {"3.6"}),
        ("test_rule_5_accounts_link_by_domain", "", {"5"}),
        ("test_rules_1_4_2_1_and_2_3_contacts", "", {"1.4", "2.1", "2.3"}),
        ("test_something", "Rules 4.12, 6.4 and 7.", {"4.12", "6.4", "7"}),
        ("test_something", "Rule 4.9: 3 of 5 are skipped.", {"4.9"}),
        ("test_a_rule_of_thumb_in_2_steps", "In 3.11 it was so.", set()),
    ],
)
def test_what_a_test_names_is_understood(name: str, docstring: str, rules: set[str]) -> None:
    assert rules_named_by(name, docstring) == rules
