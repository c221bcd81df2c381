"""The README tells the truth about what can be looked up in the code."""

import re
from pathlib import Path

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next of the same or a higher level."""
    level, rest = re.search(rf"^(#+) {re.escape(title)}\n(.*)", README, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_rule_7_every_code_of_the_catalogue_says_what_to_do() -> None:
    rows = section("Last night's run failed: what now")
    assert {code for code in CATALOGUE if f"`{code}`" not in rows} == set()


def test_every_setting_is_explained() -> None:
    table = section("Settings")
    assert {name for name in Settings.model_fields if not re.search(rf"`{name}[`.]", table)} == set()


def test_every_table_of_the_store_is_in_the_data_model() -> None:
    migrations = (ROOT / "include/contact_sync/sql/migrations").glob("*.sql")
    statements = "".join(path.read_text(encoding="utf-8") for path in migrations)
    made = re.findall(r"CREATE (?:TABLE|VIEW) contact_store\.(\w+)", statements)
    assert made
    assert {name for name in made if f"`{name}`" not in section("Data model")} == set()


def test_every_path_that_is_named_exists() -> None:
    named = re.findall(r"^((?:dags|include|tests)/\S*)", section("Change it"), re.MULTILINE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(
        re.findall(
            r"\bmake ([a-z-]+)\b", "".join(re.findall(r"`[^`\n]*`|^```.*?^```", README, re.MULTILINE | re.DOTALL))
        )
    )
    assert targets
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
