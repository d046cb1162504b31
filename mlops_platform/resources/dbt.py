"""dbt: its manifest, made when there is none that fits, and its runs, in this process.

What belongs here: calling dbt and saying in a sentence why it failed. What its models and tests mean to the
asset graph is in `assets/transform.py`; the SQL is in `dbt_transforms/`.

dbt runs in process because a subprocess imports dbt again for each run (4.7 s of CPU for 0.4 s of work) and,
if the run is killed, lives on and keeps the warehouse file locked.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.resources.job_labels import job_labels

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


@dataclass(frozen=True)
class NodeResult:
    """How one model or test ended; `status` is dbt's word: success, error, pass, fail, warn or skipped."""

    unique_id: str
    status: str
    message: str
    failures: int
    seconds: float
    sql: str


@dataclass(frozen=True)
class BuildResult:
    """How a `dbt build` ended: its nodes in the order they finished, what dbt said meanwhile, where to read more."""

    nodes: Sequence[NodeResult]
    log: str
    url: str | None = None


def prepared_project(
    project_dir: Path, state_dir: Path, variables: Mapping[str, str], target: str = "duckdb"
) -> PreparedProject:
    """Return the dbt project with a manifest that fits its files, made by `dbt parse` if there is none yet.

    A manifest lies in a folder named after the content of the project's files, the target, the variables and
    dbt's version: a stale one is never found, and of two processes that make it at once either may win.

    Args:
        project_dir: The folder that holds dbt_project.yml and profiles.yml. Nothing is written there.
        state_dir: The folder for what dbt writes (manifest, compiled SQL).
        variables: dbt variables for the profile, with all that names a table (path, schema, project).
        target: The target in profiles.yml.

    Raises:
        TransformError: dbt cannot read the project, or `state_dir` cannot be written.
    """
    if not (project_dir / "dbt_project.yml").is_file():
        raise TransformError(f"No dbt project in {project_dir}: run from a full checkout of the repository.")
    target_path = state_dir / _fingerprint(project_dir, target, variables)
    manifest = _read_manifest(target_path)
    if manifest is None:
        try:
            _parse(project_dir, target_path, target, variables)
        except OSError as error:
            raise TransformError(
                f"Cannot write dbt's manifest in {state_dir} ({error.strerror or error}): "
                "set MLOPS_HOME to a folder that you may write."
            ) from error
        manifest = _read_manifest(target_path)
    if manifest is None:
        raise TransformError(f"dbt parsed {project_dir} but wrote no manifest in {target_path}.")
    return PreparedProject(project_dir, target_path, target, dict(variables), manifest)


@dataclass(frozen=True)
class DbtSecrets:
    """Environment variables that hold secrets, for dbt alone and only while it runs."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Puts them into the environment of the process, and takes them out at the end."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class Dbt(dg.ConfigurableResource, ABC):
    """What runs dbt for the graph."""

    @abstractmethod
    def build(self, select: Sequence[str], *, full_refresh: bool = False) -> BuildResult:
        """Run `dbt build` for exactly these models and tests, in dbt's order.

        A model or test that fails doesn't raise: see the statuses.

        Args:
            select: Fully qualified names of dbt nodes.
            full_refresh: Build incremental models whole.

        Raises:
            TransformError: dbt stopped before it ran anything.
        """


class DbtRunner(Dbt):
    """Runs dbt in this process."""

    project_dir: str
    target_path: str
    target: str
    variables: dict[str, str]
    # not a config field: the UI shows those
    secrets: dg.ResourceDependency[DbtSecrets] = DbtSecrets()  # type: ignore[assignment]

    @classmethod
    def of(cls, project: PreparedProject, secrets: DbtSecrets | None = None) -> "DbtRunner":
        """Return the runner of a prepared project.

        Args:
            project: The project, from `prepared_project`.
            secrets: What the profile's target takes from the environment; by default nothing.
        """
        return cls(
            project_dir=str(project.project_dir),
            target_path=str(project.target_path),
            target=project.target,
            variables=dict(project.variables),
            secrets=secrets or DbtSecrets(),
        )

    def build(self, select: Sequence[str], *, full_refresh: bool = False) -> BuildResult:
        """Run `dbt build` in this process; see `Dbt.build`."""
        from dbt.cli.main import dbtRunner

        lines: list[str] = []
        runner = dbtRunner(callbacks=[lambda event: _keep_line(event, lines)])
        options = _options(Path(self.project_dir), Path(self.target_path), self.target, self.variables)
        # no JSON: the artifacts would tell what the result tells, for 0.3 s
        arguments = ["build", *options, "--no-write-json", "--indirect-selection", "empty"]
        if full_refresh:
            arguments.append("--full-refresh")
        # not as variables, since dbt parses anew when one changes
        labels = {"MLOPS_JOB_LABELS": json.dumps(job_labels())}
        with self.secrets.exported(), DbtSecrets(labels).exported():
            outcome = runner.invoke([*arguments, "--select", *select])
        if outcome.exception is not None and not isinstance(outcome.exception, Exception):
            raise outcome.exception  # an interrupt, which dbt hands back as a result
        results = getattr(outcome.result, "results", None)
        if results is None:
            raise TransformError(f"dbt stopped: {first_lines(str(outcome.exception))}.") from outcome.exception
        return BuildResult([_node_result(result) for result in results], "\n".join(lines))


def first_lines(message: str) -> str:
    """Return dbt's or the database's message as part of a sentence: one line, without code excerpts."""
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line.strip("^ ") and not line.startswith(_EXCERPTS)]
    text = "; ".join(kept).rstrip(".") or "it gave no reason"
    return text if len(text) <= 400 else f"{text[:400]}..."


def _options(project_dir: Path, target_path: Path, target: str, variables: Mapping[str, str]) -> list[str]:
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


def _parse(project_dir: Path, target_path: Path, target: str, variables: Mapping[str, str]) -> None:
    target_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".parse-", dir=target_path.parent) as folder:
        command = [sys.executable, "-c", _CHILD, "parse"]
        command += _options(project_dir, Path(folder), target, variables)
        try:
            child = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=_PARSE_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TransformError(f"dbt took over {_PARSE_TIMEOUT} s to parse {project_dir}.") from error
        if child.returncode != 0:
            raise TransformError(f"dbt cannot read the project in {project_dir}: {first_lines(child.stderr)}.")
        # the manifest goes last: where it is, the rest is
        for name in ("partial_parse.msgpack", "manifest.json"):
            (Path(folder) / name).replace(target_path / name)
    entries = sorted(target_path.parent.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in entries[:-_KEPT_PARSES]:
        shutil.rmtree(old, ignore_errors=True)


def _keep_line(event: Any, lines: list[str]) -> None:
    # what was built and what is wrong; passed tests show as checks
    if event.info.name == "LogModelResult" or event.info.level in {"warn", "error"}:
        lines.append(event.info.msg.strip())


def _node_result(result: Any) -> NodeResult:
    return NodeResult(
        unique_id=result.node.unique_id,
        status=str(result.status),
        message=result.message or "",
        failures=result.failures or 0,
        seconds=round(result.execution_time, 3),
        sql=(getattr(result.node, "compiled_code", None) or "").strip(),
    )
