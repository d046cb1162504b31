"""The assets `projects` and `tags`: each a CSV file, loaded unchanged into a raw table of the warehouse.

The declaration that every loader of them shares is here too; ``airbyte`` is the other loader. Avoid cleaning or
joining anything here: the checks validate the content, and the transform stage cleans it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.assets import label_tables
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.csv_ingest.source_file import SOURCE_FINGERPRINT, fetched
from mlops_platform.resources.labels import label_log
from mlops_platform.resources.warehouse.base import LoadResult, Warehouse
from mlops_platform.sql import SQL, sql

_PREVIEW_ROWS = 5
_PREVIEW_CHARS = 80


@dataclass(frozen=True)
class Column:
    """A declared column: its DuckDB type and its description."""

    kind: str
    description: str


# the only declaration of the raw tables: loaders cast to these types, and the UI shows these descriptions
TABLES: Mapping[str, Mapping[str, Column]] = {
    "projects": {
        "id": Column("BIGINT", "Id of the project; unique."),
        "created_on": Column("TIMESTAMP", "When the project was posted, in UTC."),
        "title": Column("VARCHAR", "Title of the project, one line."),
        "description": Column("VARCHAR", "What the project is about; may contain line breaks."),
    },
    "tags": {
        "id": Column("BIGINT", "Id of the project that has the tag."),
        "tag": Column("VARCHAR", "Class of the project, given by a person."),
    },
}

_DESCRIPTIONS = {
    "projects": "Machine-learning projects as people posted them: title, description and time. One row per project, "
    "unchanged from the source; lines that cannot be read are in the table `rejects`.",
    "tags": "The class that a person gave a project. At most one row per project, as in the source; lines that cannot "
    "be read are in the table `rejects`. Where people gave labels of their own, the tag is resolved from all of them.",
}


def build_ingest_assets(
    projects_uri: str, tags_uri: str, fetch_timeout: float, event_log_path: Path | None = None
) -> list[dg.AssetsDefinition]:
    """Return the assets `projects` and `tags`, which need the resource `warehouse`.

    Args:
        projects_uri: Path or http(s) URL of the projects CSV.
        tags_uri: Path or http(s) URL of the tags CSV.
        fetch_timeout: Seconds to wait for a server.
        event_log_path: The log of people's labels, which `tags` ingests.
    """
    return [
        _ingest_asset("projects", projects_uri, fetch_timeout, None),
        _ingest_asset("tags", tags_uri, fetch_timeout, event_log_path),
    ]


def _ingest_asset(table: str, uri: str, fetch_timeout: float, event_log_path: Path | None) -> dg.AssetsDefinition:
    @dg.asset(**declaration(table), kinds={"duckdb", "csv"})
    def ingest(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
        columns = {name: column.kind for name, column in TABLES[table].items()}
        # one connection for the whole step: opening the file takes 12 ms
        with platform_errors_as_failures(), fetched(uri, fetch_timeout) as source, warehouse.connect():
            log = read_labels(event_log_path)
            result = warehouse.load_csv(table, source.path, columns, source.name)
            labels = apply_labels(log, warehouse) if table == label_tables.TAGS else {}
            if labels:
                version = warehouse.content_version(table)
                result = replace(result, rows=warehouse.row_count(table), version=version)
            context.log.info(f"{source.name}: {result.rows:,} rows in {table}, {result.rejected:,} lines rejected.")
            return dg.MaterializeResult(
                data_version=dg.DataVersion(result.version),
                metadata={**_metadata(table, source.name, result, warehouse), **labels},
            )

    return ingest


def _metadata(table: str, source: str, result: LoadResult, warehouse: Warehouse) -> dict[str, Any]:
    return {
        **table_metadata(table, result.rows, warehouse),
        "rejected_lines": result.rejected,
        "source": source,
        SOURCE_FINGERPRINT: result.fingerprint,
        "ignored_columns": ", ".join(result.ignored_columns) or "none",
    }


def read_labels(path: Path | None) -> label_log.LabelLog:
    """Read people's labels, none without a path; call it before the load, so that an error leaves the old table."""
    return label_log.read(path, label_tables.known_tags()) if path else label_log.LabelLog()


def apply_labels(log: label_log.LabelLog, warehouse: Warehouse) -> dict[str, Any]:
    """Apply people's labels to the newly loaded table `tags`, and return metadata; empty if there are no labels."""
    applied = label_tables.apply(warehouse, log)
    if applied is None:
        return {}
    return {
        "labels_by_people": applied.labeled,
        "label_conflicts": applied.conflicts,
        "unresolved_label_conflicts": applied.unresolved,
        label_log.LABELS_FINGERPRINT: log.fingerprint,
    }


def declaration(table: str) -> dict[str, Any]:
    """Return the arguments that every loader of a raw table passes to `dg.asset`."""
    return {
        "name": table,
        "group_name": "ingest",
        "owners": ["team:data"],
        "description": _DESCRIPTIONS[table],
        "pool": "warehouse",
        "metadata": {"dagster/column_schema": _column_schema(table)},
    }


def table_metadata(table: str, rows: int, warehouse: Warehouse) -> dict[str, Any]:
    """Return the metadata of a raw table of `rows` rows after a load, whatever loaded it."""
    metadata: dict[str, Any] = {
        "dagster/row_count": rows,
        "dagster/column_schema": _column_schema(table),
        "preview": dg.MetadataValue.md(_preview(table, warehouse)),
    }
    if "created_on" in TABLES[table]:
        query = sql("SELECT min(created_on), max(created_on) FROM {table}", table=table)
        ((first, last),) = warehouse.fetch_rows(query)
        metadata["created_on"] = f"{first} to {last}" if first else "no value"
    return metadata


def _column_schema(table: str) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=column.kind, description=column.description)
            for name, column in TABLES[table].items()
        ]
    )


def _preview(table: str, warehouse: Warehouse) -> str:
    names = list(TABLES[table])
    texts = ", ".join(
        f"substr({name}, 1, {_PREVIEW_CHARS + 1})" if column.kind == "VARCHAR" else name
        for name, column in TABLES[table].items()
    )
    query = sql("SELECT {texts} FROM {table} LIMIT {rows}", texts=SQL(texts), table=table, rows=_PREVIEW_ROWS)
    rows = warehouse.fetch_rows(query)
    return markdown_table(names, rows, _PREVIEW_CHARS)


def markdown_table(names: list[str], rows: list[tuple[Any, ...]], max_chars: int) -> str:
    """Return rows as a Markdown table, each value on one line of at most `max_chars` characters."""
    lines = [names, ["---"] * len(names)]
    for row in rows:
        texts = ["" if value is None else " ".join(str(value).split()) for value in row]
        cut = (text if len(text) <= max_chars else text[: max_chars - 1] + "…" for text in texts)
        lines.append([_escape(text) for text in cut])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    # the UI renders Markdown: text from a source must not become a link, an image or HTML
    for mark in "\\`*_[]<>|!":
        text = text.replace(mark, "\\" + mark)
    return text
