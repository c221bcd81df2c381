"""Small changes to transform, match, plan and claims, one at a time: do the tests notice? `make mutate`.

Every mutant runs in a process of its own, forked from one that has the large libraries loaded but none of our code.
It is judged by the worlds of the proof and by the tests of the pure core. A mutant that nobody notices is listed.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "include.contact_sync"
MODULES = ("transform", "match", "plan", "claims")
TESTS = ("test_transform.py", "test_match.py", "test_claims.py", "test_columns.py", "test_phones.py")
WORLDS, IN_A_BATCH = 10, 30
SECONDS = 180
ENOUGH = 0.9

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
}


@dataclass(frozen=True)
class Mutant:
    """`place`: the number of the node in the order of `ast.walk`."""

    module: str
    line: int
    what: str
    place: int
    kind: str


def mutants_of(module: str) -> Iterator[Mutant]:
    tree = ast.parse(source_of(module))
    left_alone = not_code(tree)
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in left_alone:
            continue
        for kind, after in changes(node):
            yield Mutant(
                module,
                getattr(node, "lineno", 0),
                f"{ast.unparse(node)[:70]}  ->  {ast.unparse(after)[:70]}",
                place,
                kind,
            )


def not_code(tree: ast.AST) -> set[int]:
    """Docstrings, annotations and what only names a type: changing them changes nothing."""
    found: set[int] = set()
    for node in ast.walk(tree):
        notes: list[ast.AST | None] = []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            notes.append(node.value)
        if isinstance(node, ast.FunctionDef):
            notes += [node.returns, *(argument.annotation for argument in [*node.args.args, *node.args.kwonlyargs])]
        if isinstance(node, ast.AnnAssign):
            notes.append(node.annotation)
        if isinstance(node, ast.keyword) and node.arg == "validate":
            notes.append(node.value)
        found |= {id(part) for note in notes if note is not None for part in ast.walk(note)}
    return found


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every small change of this node."""
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and type(changed.ops[0]) in COMPARISONS:
        changed.ops[0] = COMPARISONS[type(changed.ops[0])]()
        yield "comparison", changed
    elif isinstance(changed, ast.BoolOp):
        changed.op = ast.And() if isinstance(changed.op, ast.Or) else ast.Or()
        yield "and/or", changed
    elif isinstance(changed, ast.BinOp | ast.AugAssign) and type(changed.op) in OPERATORS:
        changed.op = OPERATORS[type(changed.op)]()
        yield "operator", changed
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not | ast.Invert):
        yield "not", changed.operand
    elif isinstance(changed, ast.If | ast.IfExp | ast.While):
        changed.test = ast.UnaryOp(ast.Not(), changed.test)
        yield "condition", changed
    elif isinstance(changed, ast.Constant):
        yield from ((("constant"), ast.Constant(value)) for value in other_values(changed.value))
    elif isinstance(changed, ast.Break):
        yield "break", ast.Continue()
    elif isinstance(changed, ast.Continue):
        yield "continue", ast.Break()
    elif isinstance(changed, ast.Return) and changed.value is not None:
        changed.value = ast.Constant(None)
        yield "return", changed


def other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str) and value:
        yield value + "x"


def source_of(module: str) -> str:
    return (ROOT / "include" / "contact_sync" / f"{module}.py").read_text(encoding="utf-8")


def code_of(mutant: Mutant) -> CodeType:
    tree = ast.parse(source_of(mutant.module))
    victim = list(ast.walk(tree))[mutant.place]
    (after,) = [after for kind, after in changes(victim) if kind == mutant.kind]
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is victim:
                setattr(node, name, after)
            elif isinstance(value, list) and any(one is victim for one in value):
                setattr(node, name, [after if one is victim else one for one in value])
    return compile(ast.fix_missing_locations(tree), f"{mutant.module}.py", "exec")


class Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.code = f"{PACKAGE}.{mutant.module}", code_of(mutant)

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


def is_noticed(mutant: Mutant | None) -> bool:
    """In a process of its own; a process that does not end has noticed, too."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    signal.alarm(SECONDS)
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if mutant:
            sys.meta_path.insert(0, Instead(mutant))
        code = judge()
    finally:
        os._exit(code)


def judge() -> int:
    """Zero where nobody notices; the worlds first, since they notice most."""
    from tests.contact_sync.agreement import judge_together
    from tests.contact_sync.worlds import batch_of_worlds

    for number in range(WORLDS):
        judge_together(batch_of_worlds(number, IN_A_BATCH), Random(number))
    import pytest

    files = [str(ROOT / "tests" / "contact_sync" / name) for name in TESTS]
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*quiet, *files]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", nargs="+", default=MODULES)
    chosen = parser.parse_args()
    every = [mutant for module in chosen.modules for mutant in mutants_of(module)]
    drawn = Random(chosen.seed).sample(every, min(chosen.count or len(every), len(every)))
    load_libraries()
    assert not is_noticed(None), "the tests fail without any mutant"
    started, survivors = time.monotonic(), []
    for mutant in sorted(drawn, key=lambda one: (one.module, one.line)):
        if not is_noticed(mutant):
            survivors.append(mutant)
            print(f"nobody noticed: {mutant.module}.py:{mutant.line}  {mutant.what}".replace("\n", " "), flush=True)
    score = 1 - len(survivors) / len(drawn)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{len(drawn)} of {len(every)} mutants, {len(drawn) - len(survivors)} noticed: {score:.0%}, in {minutes:.0f} minutes"
    )
    return 0 if score >= ENOUGH else 1


def load_libraries() -> None:
    for name in (
        "numpy",
        "pandas",
        "pyarrow.compute",
        "pydantic",
        "phonenumbers",
        "rphonenumbers",
        "hypothesis",
        "pytest",
        "psycopg",
        "yaml",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
