"""The dbt project and its manifest, which dbt parses again when a file of the project has changed.

Running models and tests is in `runner.py`; which project, target and variables the settings mean, in `factory.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster_dbt import DbtProject
from filelock import FileLock

from mlops_platform.errors import TransformError

_KEPT_PARSES = 8
_WRITTEN_BY_DBT = {"target", "logs", "dbt_packages"}
_EXCERPTS = ("LINE ", "Candidate bindings", "compiled code at", "in macro ", "> ", "line ")


@dataclass(frozen=True)
class PreparedProject:
    """A dbt project, its variables, and the manifest of its files as they are now."""

    dbt_project: DbtProject
    variables: Mapping[str, str]
    manifest: Mapping[str, Any]

    @property
    def options(self) -> list[str]:
        """The command-line options for dbt: all that it would otherwise take from the environment or ~/.dbt."""
        return [
            *("--project-dir", str(self.dbt_project.project_dir)),
            *("--profiles-dir", str(self.dbt_project.profiles_dir)),
            *("--target", str(self.dbt_project.target), "--vars", json.dumps(dict(self.variables), sort_keys=True)),
            *("--target-path", str(self.dbt_project.target_path), "--log-path", str(self.dbt_project.target_path)),
            *("--log-level", "none", "--log-level-file", "none", "--no-use-colors", "--partial-parse"),
            *("--no-send-anonymous-usage-stats", "--no-print"),
        ]


def prepare_project(project_dir: Path, state_dir: Path, variables: Mapping[str, str], target: str) -> PreparedProject:
    """Return a dbt project with its manifest, which is parsed when there is none of these files.

    The manifest lies in a folder named after the content of the project's files, the target, the variables and dbt's
    version, so a stale one is never read. Processes that prepare the same project wait for each other.

    Args:
        project_dir: The folder that holds dbt_project.yml and profiles.yml. Nothing is written there.
        state_dir: The folder for what dbt writes (manifest, compiled SQL).
        variables: dbt variables for the profile, with all that names a table (path, schema, project).
        target: The target in profiles.yml.

    Raises:
        TransformError: There is no project, dbt cannot read it, or `state_dir` cannot be written.
    """
    if not (project_dir / "dbt_project.yml").is_file():
        raise TransformError(f"No dbt project in {project_dir}: run from a full checkout of the repository.")
    target_path = state_dir / _fingerprint(project_dir, target, variables)
    dbt_project = DbtProject(project_dir, target_path=target_path, target=target)
    try:
        manifest = _read_manifest(dbt_project) or _parse(PreparedProject(dbt_project, variables, {}))
    except OSError as error:
        raise TransformError(
            f"Cannot write dbt's manifest in {state_dir} ({error.strerror or error}): "
            "set MLOPS_HOME to a folder that you may write."
        ) from error
    return PreparedProject(dbt_project, dict(variables), manifest)


def invoke_dbt(arguments: Sequence[str], callbacks: Sequence[Callable[[Any], None]] = ()) -> Any:
    """Run a dbt command in this process and return dbt's `dbtRunnerResult`; the callbacks receive its events."""
    from dbt.cli.main import dbtRunner

    outcome = dbtRunner(callbacks=list(callbacks)).invoke(list(arguments))
    if outcome.exception is not None and not isinstance(outcome.exception, Exception):
        raise outcome.exception  # an interrupt, which dbt returns as a result
    return outcome


def first_lines(message: str) -> str:
    """Return dbt's or the database's message as part of a sentence: one line, without code excerpts."""
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line.strip("^ ") and not line.startswith(_EXCERPTS)]
    text = "; ".join(kept).rstrip(".") or "it gave no reason"
    return text if len(text) <= 400 else f"{text[:400]}..."


def _parse(project: PreparedProject) -> dict[str, Any]:
    dbt_project, target_path = project.dbt_project, project.dbt_project.target_path
    target_path.mkdir(parents=True, exist_ok=True)
    with FileLock(target_path.parent / ".parse.lock"):
        if _read_manifest(dbt_project) is None:  # another process may have parsed it meanwhile
            outcome = invoke_dbt(["parse", *project.options])
            if not outcome.success:
                reason = first_lines(str(outcome.exception))
                raise TransformError(f"dbt cannot read the project in {dbt_project.project_dir}: {reason}.")
        parses = sorted(filter(Path.is_dir, target_path.parent.iterdir()), key=lambda path: path.stat().st_mtime)
        for old in parses[:-_KEPT_PARSES]:
            shutil.rmtree(old, ignore_errors=True)
    manifest: dict[str, Any] = json.loads(dbt_project.manifest_path.read_bytes())
    return manifest


def _read_manifest(project: DbtProject) -> dict[str, Any] | None:
    try:
        manifest = json.loads(project.manifest_path.read_bytes())
    except (OSError, ValueError):
        return None  # missing or damaged: parse again
    return manifest if isinstance(manifest, dict) and "nodes" in manifest else None


def _fingerprint(project_dir: Path, target: str, variables: Mapping[str, str]) -> str:
    versions = [version(package) for package in ("dbt-core", f"dbt-{target}")]
    digest = hashlib.sha256(json.dumps([str(project_dir), target, dict(variables), versions], sort_keys=True).encode())
    for path in sorted(filter(Path.is_file, project_dir.rglob("*"))):
        name = path.relative_to(project_dir)
        if name.parts[0] not in _WRITTEN_BY_DBT and not any(part.startswith(".") for part in name.parts):
            content = path.read_bytes()
            digest.update(f"{name.as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()[:20]
