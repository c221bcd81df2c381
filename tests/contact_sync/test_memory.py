"""The peak memory that a step tells is its own, not that of a step before it in the same process."""

from pathlib import Path

import pytest

from include.contact_sync import memory
from include.contact_sync.memory import forget_peak, peak_mb

MB = 2**20


def _touch(megabytes: int) -> None:
    held = bytearray(megabytes * MB)
    held[::4096] = b"x" * len(held[::4096])


def test_the_peak_counts_what_was_given_back_and_is_forgotten_on_request() -> None:
    forget_peak()
    before = peak_mb()
    _touch(200)
    with_it = peak_mb()
    assert with_it >= before + 190
    forget_peak()
    assert peak_mb() <= with_it - 150


def test_a_system_that_tells_no_peak_gives_that_of_the_whole_life(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    before = peak_mb()
    _touch(before + 100)
    forget_peak()
    assert peak_mb() >= before + 100
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert peak_mb() >= before + 100


def test_a_system_that_does_not_forget_tells_the_larger_peak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_peak()
    _touch(200)
    held = peak_mb()
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    forget_peak()
    assert peak_mb() == held
