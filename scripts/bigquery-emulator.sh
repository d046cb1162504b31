#!/bin/sh
# Create .venv-bigquery/, the environment of the BigQuery emulator that `make test-production` starts. Its DuckDB
# extensions are installed from wheels into .venv-bigquery/home, so that the emulator downloads nothing.
# An interrupted set-up leaves no stamp, and the next one starts over.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-bigquery
pins=scripts/bigquery-emulator.txt
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! "$pins" -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

echo "Setting up $folder, the BigQuery emulator of the tests (once; a minute) ..."
scripts/pinned-venv.sh "$folder" "$pins" "The BigQuery emulator" 3.13 3.14

mkdir -p "$folder/home"
HOME=$PWD/$folder/home "$folder/bin/python" - <<'PYTHON'
import importlib
from pathlib import Path

import duckdb

connection = duckdb.connect()
for name in ("icu", "ducklake", "spatial"):
    package = Path(importlib.import_module(f"duckdb_extension_{name}").__file__).parent
    file = package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    connection.execute("INSTALL '" + str(file).replace("'", "''") + "'")
    connection.execute(f"LOAD {name}")
PYTHON
touch "$stamp"
