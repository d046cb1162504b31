#!/bin/sh
# Makes .venv-airflow/, the environment that `make bench-airflow` measures: Airflow 3 and the platform's libraries in one
# environment, so that a task calls them without a second Python. The platform itself is found by PYTHONPATH.
# Airflow's own constraints are on GitHub; these pins are what was tested, a whole set, hence --no-deps.
# A set-up that was cut off has left no stamp, and the next one begins anew.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-airflow
pins=benchmarks/airflow/requirements.txt
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! "$pins" -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

fits() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

python=
for candidate in .venv/bin/python python3.11 python3 "$HOME"/.pyenv/versions/3.11*/bin/python; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ] && ! command -v uv >/dev/null 2>&1; then
    echo "The comparison with Airflow needs Python 3.11: install it, or install uv, which fetches it." >&2
    exit 1
fi

echo "Setting up $folder, Airflow 3 for the comparison (once; some minutes) ..."
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python "${python:-3.11}" "$folder"
    uv pip install --quiet --compile-bytecode --python "$folder/bin/python" --no-deps --requirement "$pins"
else
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$pins"
fi
touch "$stamp"
