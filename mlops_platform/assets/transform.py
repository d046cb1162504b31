"""The transform stage: what dbt builds from the raw tables, as assets and asset checks.

What belongs here: how a dbt node becomes an asset or a check, and how a dbt result becomes a Dagster event.
How dbt is called is in `resources/dbt.py`; the SQL is in `dbt_transforms/`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject
from pydantic import Field

from mlops_platform.assets.failures import sentences
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.dbt import BuildResult, Dbt, NodeResult
from mlops_platform.resources.dbt_manifest import PreparedProject, TransformError, first_lines
from mlops_platform.resources.warehouse_base import Warehouse

_UNIQUE_ID = "dagster_dbt/unique_id"  # dagster-dbt notes on each spec and check spec which node it is


class TransformConfig(dg.Config):
    """How a run builds tables that are merged; where they are built whole anyway, it changes nothing."""

    full_refresh: bool = Field(default=False, description="Build merged tables whole.")


class TransformTranslator(DagsterDbtTranslator):
    """Gives dbt's models, sources and tests the names, owner and texts that the graph wants."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the bare table name, for models and sources alike."""
        return dg.AssetKey([dbt_resource_props["name"]])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return what the yml file says; the compiled SQL is on each materialization."""
        return str(dbt_resource_props["description"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return the group of the stage."""
        return "transform"

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """Return the team that answers for the tables."""
        return ["team:data"]

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Mapping[str, Any],
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        """Return dagster-dbt's check, blocking if the test's severity is error, with its description."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        return dg.AssetCheckSpec(
            spec.name,
            asset=spec.asset_key,
            description=manifest["nodes"][unique_id]["description"] or None,
            additional_deps=spec.additional_deps,
            blocking=spec.blocking,
            metadata=spec.metadata,
        )


def build_transform_assets(
    project: PreparedProject, translator: DagsterDbtTranslator | None = None
) -> dg.AssetsDefinition:
    """Return the dbt project's models as assets, its tests as their checks.

    The assets need the resources `dbt` (a `Dbt`) and `warehouse`. A materialization carries the content
    hash of the table as its data version, so a rebuild with the same result changes nothing downstream.

    Args:
        project: The project with its manifest, from `Preparation.finish`.
        translator: How dbt nodes become assets; default `TransformTranslator`.
    """
    manifest = project.manifest
    specs, check_specs = _specs(manifest, translator or TransformTranslator())

    # not dagster-dbt's decorator: to select all nodes it imports dbt's graph and networkx, 0.4 s of each load
    @dg.multi_asset(name="transform", specs=specs, check_specs=check_specs, can_subset=True, pool="warehouse")
    def transform(
        context: dg.AssetExecutionContext, config: TransformConfig, dbt: Dbt, warehouse: Warehouse
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        keys = _selected_keys(context)
        # held while dbt runs, which shares it: this waits for the lock and names its holder, dbt only fails
        with sentences(), warehouse.connect():
            _require_sources(manifest, warehouse)
            select = [".".join(manifest["nodes"][unique_id]["fqn"]) for unique_id in keys]
            build = _build(dbt, select, config.full_refresh, warehouse)
            if build.log:
                context.log.info(build.log)
            for node in build.nodes:
                key = keys[node.unique_id]
                props = manifest["nodes"][node.unique_id]
                if isinstance(key, dg.AssetKey) and node.status == "success":
                    yield _materialization(key, node, props, warehouse, build.url)
                elif isinstance(key, dg.AssetCheckKey) and node.status in {"pass", "fail", "warn"}:
                    yield _check_result(key, node, props, warehouse)
            _raise_errors(build.nodes, manifest, warehouse)

    return transform


def _tests(manifest: Mapping[str, Any]) -> set[str]:
    return {name for name, node in manifest["nodes"].items() if node["resource_type"] == "test"}


def _build(dbt: Dbt, select: Sequence[str], full_refresh: bool, warehouse: Warehouse) -> BuildResult:
    try:
        return dbt.build(select, full_refresh=full_refresh)
    except TransformError as error:
        refusal = warehouse.refusal(str(error))
        if refusal is None:
            raise
        raise TransformError(f"dbt could not begin: {refusal}") from error


def _specs(
    manifest: Mapping[str, Any], translator: DagsterDbtTranslator
) -> tuple[list[dg.AssetSpec], list[dg.AssetCheckSpec]]:
    specs: list[dg.AssetSpec] = []
    check_specs: list[dg.AssetCheckSpec] = []
    tests = _tests(manifest)
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "model":
            continue
        spec = translator.get_asset_spec(manifest, unique_id, None)
        specs.append(spec)
        for test in sorted(tests):
            check_spec = translator.get_asset_check_spec(spec, manifest, test, None)
            if check_spec is not None:
                check_specs.append(check_spec)
                tests.discard(test)
    if tests:
        # it would never run, and nobody would see that
        name = manifest["nodes"][min(tests)]["name"]
        raise TransformError(f"The dbt test {name} belongs to no model: name one under meta.dagster.ref in its config.")
    return specs, check_specs


def _selected_keys(context: dg.AssetExecutionContext) -> dict[str, dg.AssetKey | dg.AssetCheckKey]:
    """Return what this step is asked for, by dbt's unique id."""
    assets = context.assets_def
    keys: dict[str, dg.AssetKey | dg.AssetCheckKey] = {
        assets.get_asset_spec(key).metadata[_UNIQUE_ID]: key for key in context.selected_asset_keys
    }
    for spec in assets.check_specs:
        if spec.key in context.selected_asset_check_keys:
            keys[(spec.metadata or {})[_UNIQUE_ID]] = spec.key
    return keys


def _require_sources(manifest: Mapping[str, Any], warehouse: Warehouse) -> None:
    missing = sorted(
        source["identifier"] for source in manifest["sources"].values() if not warehouse.has_table(source["identifier"])
    )
    if missing:
        names = " and ".join(missing)
        raise WarehouseError(f"The warehouse has no table {names}: materialize {names} first.")


def _check_result(
    key: dg.AssetCheckKey, node: NodeResult, props: Mapping[str, Any], warehouse: Warehouse
) -> dg.AssetCheckResult:
    warns = node.status == "warn" or props["config"]["severity"].lower() == "warn"
    metadata: dict[str, Any] = {
        "failing_rows": node.failures,
        "seconds": node.seconds,
        "sql": dg.MetadataValue.md(f"```sql\n{node.sql}\n```"),
    }
    if node.failures:
        rows = warehouse.fetch_rows(f"select * from (\n{node.sql}\n) as failing limit 5")  # noqa: S608
        metadata["examples"] = dg.MetadataValue.json([[str(value) for value in row] for row in rows])
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=node.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


def _materialization(
    key: dg.AssetKey, node: NodeResult, props: Mapping[str, Any], warehouse: Warehouse, url: str | None
) -> dg.MaterializeResult:
    table = props["alias"]
    descriptions = {name: column["description"] for name, column in props["columns"].items()}
    columns = [
        dg.TableColumn(name, type=kind, description=descriptions.get(name) or None)
        for name, kind in warehouse.describe(table)
    ]
    return dg.MaterializeResult(
        asset_key=key,
        data_version=dg.DataVersion(warehouse.content_version(table)),
        metadata={
            "dagster/row_count": warehouse.row_count(table),
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "seconds": node.seconds,
            "sql": dg.MetadataValue.md(f"```sql\n{node.sql}\n```"),
            **({"run": dg.MetadataValue.url(url)} if url else {}),
        },
    )


def _raise_errors(nodes: Sequence[NodeResult], manifest: Mapping[str, Any], warehouse: Warehouse) -> None:
    """Raise for what could not run, which is neither a built table nor a failed check."""
    # in a fixed order: dbt's threads finish in any
    errors = sorted(
        (each for each in nodes if each.status in {"error", "runtime error"}), key=lambda each: each.unique_id
    )
    if not errors:
        return
    props = manifest["nodes"][errors[0].unique_id]
    verb = "run the test" if props["resource_type"] == "test" else "build"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    # dbt's first line says again which node it was
    reason = re.sub(r"^\w+ Error in (model|test) .*\n", "", errors[0].message)
    refusal = warehouse.refusal(first_lines(reason))
    remedy = f"{first_lines(reason)}; mend {props['original_file_path']} or the tables that it reads."
    raise TransformError(f"dbt could not {verb} {props['name']}{more}: {refusal or remedy}")
