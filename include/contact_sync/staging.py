"""Where the rows of a run rest between its steps: one folder per run, Parquet files in it.

The place is an Airflow `ObjectStoragePath`: a local folder by default, a bucket where there are several workers.
Staged data is personal data: local files are readable by their owner only, and everything goes when its retention
ends. Checksums tell of a file that was damaged. What the files hold is decided by the steps that write them.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa

from include.contact_sync.errors import RunRefused

Files = Any
"""An fsspec file system; the package comes without types."""

_LOCAL_PROTOCOLS = {"", "file", "local"}


class Staging:
    """The base place, given as an url that `ObjectStoragePath` understands (`file:///data/staging`, `s3://aws_default@bucket/staging`)."""

    def __init__(self, url: str) -> None:
        from airflow.sdk import ObjectStoragePath

        place = ObjectStoragePath(url)
        self._files: Files = place.fs
        self._is_local = place.protocol in _LOCAL_PROTOCOLS
        self._folder = str(Path(place.path).absolute()) if self._is_local else place.path.rstrip("/")

    @classmethod
    def from_environment(cls) -> Self:
        """The place that CONTACT_SYNC_STAGING names; by default the folder `staging` in AIRFLOW_HOME, or where we are."""
        home = os.environ.get("AIRFLOW_HOME") or str(Path.cwd())
        return cls(os.environ.get("CONTACT_SYNC_STAGING") or f"file://{home}/staging")

    def run(self, run_id: int) -> "RunStaging":
        """The folder of one run; it appears with the first file."""
        return RunStaging(run_id, self._files, f"{self._folder}/run-{run_id}", self._is_local)

    def remove_older_than(self, days: int, now: datetime) -> int:
        """Remove the folders of runs that wrote nothing for so many days, runs that died included; return how many.

        With 0 days every folder goes, also that of a run at work.
        """
        expired = [
            folder for folder, written_at in self._last_writes().items() if written_at <= now - timedelta(days=days)
        ]
        for folder in expired:
            _remove(self._files, folder)
        return len(expired)

    def _last_writes(self) -> dict[str, datetime]:
        last: dict[str, datetime] = {}
        for path in _find(self._files, self._folder, with_folders=self._is_local):
            name = path.removeprefix(self._folder).lstrip("/").partition("/")[0]
            if not name.startswith("run-"):
                continue
            with suppress(FileNotFoundError):  # another run may be removing it as well
                folder = f"{self._folder}/{name}"
                written_at = self._files.modified(path)
                last[folder] = max(last.get(folder, written_at), written_at)
        return last


@dataclass(frozen=True)
class RunStaging:
    """The staged files of one run. Names are paths without ending: `contacts/merges`, `contacts/plan`."""

    run_id: int
    _files: Files
    _folder: str
    _is_local: bool

    def write(self, name: str, table: pa.Table) -> None:
        """Write a table; the file is there whole or, after a crash, not at all. What had the name is replaced."""
        path = self._path(name)
        if self._is_local:
            _write_local_file(Path(path), table)
        else:
            self._files.pipe_file(path, _as_parquet(table))

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a table. Raises RunRefused where it is gone."""
        if not self.exists(name):
            raise self._gone(name)
        return self._read([self._path(name)], columns)

    def write_part(self, folder: str, number: int, table: pa.Table) -> None:
        """Write one of several files that `read_parts` puts together."""
        self.write(f"{folder}/part-{number:05d}", table)

    def read_parts(self, folder: str, columns: list[str] | None = None) -> pa.Table:
        """Read all parts as one table, in the order of their numbers. Raises RunRefused where there are none."""
        parts = sorted(path for path in self._find(folder) if path.endswith(".parquet"))
        if not parts:
            raise self._gone(folder)
        return self._read(parts, columns)

    def clear(self, folder: str) -> None:
        """Remove a folder of parts, so that it can be written from the start."""
        _remove(self._files, f"{self._folder}/{folder}")

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        self._files.invalidate_cache()
        return bool(self._files.isfile(self._path(name)))

    def size(self) -> int:
        """Bytes of all files."""
        return sum(self._files.size(path) for path in self._find(""))

    def remove(self) -> None:
        """Remove everything that the run staged."""
        _remove(self._files, self._folder)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.parquet"

    def _find(self, folder: str) -> list[str]:
        return _find(self._files, f"{self._folder}/{folder}".rstrip("/"))

    def _read(self, paths: list[str], columns: list[str] | None) -> pa.Table:
        import pyarrow.parquet as pq

        return pq.read_table(
            paths, columns=columns, filesystem=self._files, partitioning=None, page_checksum_verification=True
        )

    def _gone(self, name: str) -> RunRefused:
        return RunRefused(f"The staged data {name} of run {self.run_id} is not there (any more); start a new run")


def _find(files: Files, folder: str, *, with_folders: bool = False) -> list[str]:
    files.invalidate_cache()  # other workers write, too
    found: Iterable[str] = files.find(folder, withdirs=with_folders)
    return list(found)


def _remove(files: Files, folder: str) -> None:
    files.invalidate_cache()
    with suppress(FileNotFoundError):
        files.rm(folder, recursive=True)


def _as_parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    _write_parquet(table, buffer)
    return bytes(buffer.getvalue())


def _write_parquet(table: pa.Table, target: object) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, target, compression="lz4", write_page_checksum=True)


def _write_local_file(path: Path, table: pa.Table) -> None:
    _make_private_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        with unfinished.open("wb") as file:
            _write_parquet(table, file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the final name without its content
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents for the owner only; Path.mkdir would give the parents default rights."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
