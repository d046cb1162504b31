"""dbt's manifest: made by a process of its own when there is none that fits the project's files.

This imports no Dagster, so that dbt can begin to parse while its caller still imports what it needs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlops_platform.errors import PlatformError

_PARSE_TIMEOUT = 300  # seconds
_KEPT_PARSES = 8  # an edit of the project makes a new folder: this many are kept
_WRITTEN_BY_DBT = {"target", "logs", "dbt_packages"}
# dbt's parser runs in a child, so that loading the definitions doesn't import it when the manifest is there
_CHILD = (
    "import sys; from dbt.cli.main import dbtRunner; r = dbtRunner().invoke(sys.argv[1:]); "
    "sys.exit(0 if r.success else str(r.exception))"
)
_EXCERPTS = ("LINE ", "Candidate bindings", "compiled code at", "in macro ", "> ", "line ")


class TransformError(PlatformError):
    """dbt cannot read its project, or a model or test of it cannot run."""


@dataclass(frozen=True)
class PreparedProject:
    """A dbt project with the manifest that dbt made of it as it is now."""

    project_dir: Path
    target_path: Path
    target: str
    variables: Mapping[str, str]
    manifest: Mapping[str, Any]


class Preparation:
    """A dbt project whose manifest is being made, if there is none that fits; leaving the block ends that process.

    A manifest lies in a folder named after the content of the project's files, the target, the variables and
    dbt's version: a stale one is never found, and of two processes that make it at once either may win.
    """

    def __init__(self, project_dir: Path, state_dir: Path, variables: Mapping[str, str], target: str) -> None:
        """Begin to prepare.

        Args:
            project_dir: The folder that holds dbt_project.yml and profiles.yml. Nothing is written there.
            state_dir: The folder for what dbt writes (manifest, compiled SQL).
            variables: dbt variables for the profile, with all that names a table (path, schema, project).
            target: The target in profiles.yml.

        Raises:
            TransformError: There is no project, or `state_dir` cannot be written.
        """
        if not (project_dir / "dbt_project.yml").is_file():
            raise TransformError(f"No dbt project in {project_dir}: run from a full checkout of the repository.")
        self._project_dir, self._variables, self._target = project_dir, dict(variables), target
        self._target_path = state_dir / _fingerprint(project_dir, target, variables)
        self._manifest = _read_manifest(self._target_path)
        self._folder: str | None = None
        self._child: subprocess.Popen[str] | None = None
        if self._manifest is None:
            try:
                self._begin()
            except OSError as error:
                self._end()
                raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        """Enter the block within which the project is prepared."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End dbt if it is at work, and remove what it wrote."""
        self._end()

    @property
    def at_work(self) -> bool:
        """Whether dbt still parses."""
        return self._child is not None and self._child.poll() is None

    def finish(self) -> PreparedProject:
        """Return the project, as soon as its manifest is there.

        Raises:
            TransformError: dbt cannot read the project, or its folder cannot be written.
        """
        if self._manifest is None:
            try:
                self._take()
                self._end()  # what it wrote is none of the parses that are kept
                self._prune()
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                self._end()
            self._manifest = _read_manifest(self._target_path)
        if self._manifest is None:
            raise TransformError(f"dbt parsed {self._project_dir} but wrote no manifest in {self._target_path}.")
        return PreparedProject(self._project_dir, self._target_path, self._target, self._variables, self._manifest)

    def _begin(self) -> None:
        self._target_path.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.mkdtemp(prefix=".parse-", dir=self._target_path.parent)
        command = [sys.executable, "-c", _CHILD, "parse"]
        command += dbt_options(self._project_dir, Path(self._folder), self._target, self._variables)
        self._child = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def _take(self) -> None:
        if self._child is None or self._folder is None:
            raise TransformError(f"The preparation of {self._project_dir} has been left.")
        try:
            _, said = self._child.communicate(timeout=_PARSE_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise TransformError(f"dbt took over {_PARSE_TIMEOUT} s to parse {self._project_dir}.") from error
        if self._child.returncode != 0:
            raise TransformError(f"dbt cannot read the project in {self._project_dir}: {first_lines(said)}.")
        # the manifest goes last: where it is, the rest is
        for name in ("partial_parse.msgpack", "manifest.json"):
            (Path(self._folder) / name).replace(self._target_path / name)

    def _prune(self) -> None:
        entries = sorted(self._target_path.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in entries[:-_KEPT_PARSES]:
            shutil.rmtree(old, ignore_errors=True)

    def _end(self) -> None:
        if self._child is not None:
            if self._child.poll() is None:
                self._child.kill()
            self._child.communicate()
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _unwritable(self, error: OSError) -> TransformError:
        return TransformError(
            f"Cannot write dbt's manifest in {self._target_path.parent} ({error.strerror or error}): "
            "set MLOPS_HOME to a folder that you may write."
        )


def first_lines(message: str) -> str:
    """Return dbt's or the database's message as part of a sentence: one line, without code excerpts."""
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line.strip("^ ") and not line.startswith(_EXCERPTS)]
    text = "; ".join(kept).rstrip(".") or "it gave no reason"
    return text if len(text) <= 400 else f"{text[:400]}..."


def dbt_options(project_dir: Path, target_path: Path, target: str, variables: Mapping[str, str]) -> list[str]:
    """Say everything that dbt would otherwise take from DBT_* variables, the folder it is in, or ~/.dbt."""
    return [
        *("--project-dir", str(project_dir), "--profiles-dir", str(project_dir), "--target", target),
        *("--target-path", str(target_path), "--log-path", str(target_path)),
        *("--vars", json.dumps(dict(variables), sort_keys=True)),
        *("--log-level", "none", "--log-level-file", "none", "--no-use-colors", "--partial-parse"),
        *("--no-send-anonymous-usage-stats", "--no-print"),
    ]


def _fingerprint(project_dir: Path, target: str, variables: Mapping[str, str]) -> str:
    digest = hashlib.sha256()

    def add(text: bytes) -> None:
        digest.update(len(text).to_bytes(8, "big") + text)

    packages = [f"{name} {_version(name)}" for name in ("dbt-core", f"dbt-{target}")]
    add(json.dumps([str(project_dir), target, dict(variables), packages], sort_keys=True).encode())
    for path in sorted(_project_files(project_dir)):
        add(path.relative_to(project_dir).as_posix().encode())
        add(path.read_bytes())
    return digest.hexdigest()[:20]


def _project_files(project_dir: Path) -> Iterator[Path]:
    for path in project_dir.rglob("*"):
        parts = path.relative_to(project_dir).parts
        if parts[0] not in _WRITTEN_BY_DBT and not any(part.startswith(".") for part in parts) and path.is_file():
            yield path


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _read_manifest(target_path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((target_path / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return None  # not there, or damaged: either way it is made anew
    return manifest if isinstance(manifest, dict) and "nodes" in manifest else None
