#!/bin/sh
# Makes .venv-bigquery/, the environment of the BigQuery emulator that `make test-production` starts. Its DuckDB
# extensions come from wheels and are kept in .venv-bigquery/home, so that the emulator downloads nothing.
# A set-up that was cut off has left no stamp, and the next one begins anew.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-bigquery
pins=scripts/bigquery-emulator.txt
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! "$pins" -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

fits() { "$1" -c 'import sys; sys.exit(not (3, 13) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; }

python=
for candidate in python3.13 python3.14 "$HOME"/.pyenv/versions/3.13*/bin/python "$HOME"/.pyenv/versions/3.14*/bin/python; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ] && ! command -v uv >/dev/null 2>&1; then
    echo "The BigQuery emulator needs Python 3.13 or 3.14: install it, or install uv, which fetches it." >&2
    exit 1
fi

echo "Setting up $folder, the BigQuery emulator of the tests (once; a minute) ..."
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python "${python:-3.13}" "$folder"
    uv pip install --quiet --python "$folder/bin/python" --no-deps --requirement "$pins"
else
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$pins"
fi

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
