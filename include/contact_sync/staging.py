"""Where the rows of a run rest between its steps: one folder per run, Arrow streams in it.

The place is an Airflow `ObjectStoragePath`: a local folder by default, a bucket where there are several workers.
Staged data is personal data: local files are readable by their owner only, and everything goes when its retention
ends. What the files hold is decided by the steps that write them.

A file is an Arrow IPC stream, which is written in half the time that Parquet takes and read in a fifth; behind its end,
where readers of Arrow stop, stands the CRC-32 of all before, which Arrow lacks.
"""

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self
from uuid import uuid4

import pyarrow as pa

from include.contact_sync.errors import RunRefused

Compression = Literal["lz4", "zstd"]
Files = Any
"""An fsspec file system; the package comes without types."""

_LOCAL_PROTOCOLS = {"", "file", "local"}
_ENDING = ".arrows"
_SUM = 4
"""Bytes of a checksum."""


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

    def write(self, name: str, table: pa.Table, compression: Compression = "lz4") -> None:
        """Write a table; the file is there whole or, after a crash, not at all. What had the name is replaced.

        Args:
            compression: `zstd` takes half again as long as `lz4`, and the file two thirds of the room.
        """
        path = self._path(name)
        if self._is_local:
            _write_local_file(Path(path), table, compression)
        else:
            content = BytesIO()
            _write_stream(table, content, compression)
            self._files.pipe_file(path, content.getvalue())

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a table. Raises RunRefused where it is gone or damaged."""
        return self.open(name).read(columns)

    def open(self, name: str) -> "StagedParts":
        """As `read`, but a column is read when it is asked for."""
        if not self.exists(name):
            raise self._gone(name)
        return StagedParts([self._content(name, self._path(name))])

    def write_part(self, folder: str, number: int, table: pa.Table) -> None:
        """Write one of several files that `read_parts` puts together."""
        self.write(f"{folder}/part-{number:05d}", table)

    def read_parts(self, folder: str, columns: list[str] | None = None) -> pa.Table:
        """Read all parts as one table, in the order of their numbers. Raises RunRefused where there are none."""
        return self.open_parts(folder).read(columns)

    def open_parts(self, folder: str) -> "StagedParts":
        """All parts as one table, of which a column is read when it is asked for. Raises RunRefused as `read_parts`."""
        parts = self._parts(folder)
        if not parts:
            raise self._gone(folder)
        return StagedParts([self._content(folder, part) for part in parts])

    def checksum(self, folder: str) -> str:
        """What tells these parts from all others; without reading them."""
        return b"".join(self._files.cat_file(part, start=-_SUM) for part in self._parts(folder)).hex()

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
        return f"{self._folder}/{name}{_ENDING}"

    def _parts(self, folder: str) -> list[str]:
        return sorted(path for path in self._find(folder) if path.endswith(_ENDING))

    def _find(self, folder: str) -> list[str]:
        return _find(self._files, f"{self._folder}/{folder}".rstrip("/"))

    def _content(self, name: str, path: str) -> pa.Buffer:
        """What a file holds. Raises RunRefused where it is damaged."""
        content = pa.memory_map(path).read_buffer() if self._is_local else pa.py_buffer(self._files.cat_file(path))
        if content.size <= _SUM or zlib.crc32(content[:-_SUM]).to_bytes(_SUM) != content[-_SUM:].to_pybytes():
            raise RunRefused(f"The staged data {name} of run {self.run_id} was damaged; start a new run")
        return content

    def _gone(self, name: str) -> RunRefused:
        return RunRefused(f"The staged data {name} of run {self.run_id} is not there (any more); start a new run")


@dataclass(frozen=True)
class StagedParts:
    """Several files as one table, of which only what is asked for is read, each time anew."""

    _contents: list[pa.Buffer]

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return pa.ipc.open_stream(self._contents[0]).schema

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """One column."""
        return self.read([name])[name]

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """Some columns, or all."""
        return pa.concat_tables([_read_stream(content, columns) for content in self._contents])


def _find(files: Files, folder: str, *, with_folders: bool = False) -> list[str]:
    files.invalidate_cache()  # other workers write, too
    found: Iterable[str] = files.find(folder, withdirs=with_folders)
    return list(found)


def _remove(files: Files, folder: str) -> None:
    files.invalidate_cache()
    with suppress(FileNotFoundError):
        files.rm(folder, recursive=True)


def _read_stream(content: pa.Buffer, columns: list[str] | None) -> pa.Table:
    if columns is None:
        return pa.ipc.open_stream(content).read_all()
    names = pa.ipc.open_stream(content).schema.names
    chosen = pa.ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns])
    return pa.ipc.open_stream(content, options=chosen).read_all().select(columns)


class _Summed:
    """A file that is written, and the checksum of what was."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, 0

    def write(self, block: bytes) -> int:
        self.sum = zlib.crc32(block, self.sum)
        return self.file.write(block)

    def flush(self) -> None:
        self.file.flush()


def _write_stream(table: pa.Table, file: BinaryIO, compression: Compression) -> None:
    summed = _Summed(file)
    with pa.ipc.new_stream(summed, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)
    file.write(summed.sum.to_bytes(_SUM))


def _write_local_file(path: Path, table: pa.Table, compression: Compression) -> None:
    _make_private_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        with unfinished.open("wb") as file:
            _write_stream(table, file, compression)
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
