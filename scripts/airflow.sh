#!/bin/sh
# Create .venv-airflow/ for `make bench`: Airflow 3 and the platform's libraries in one environment, so that a task calls
# them without a second Python. PYTHONPATH adds the platform itself. The pins were tested; Airflow's own constraints are
# on GitHub. An interrupted set-up leaves no stamp, and the next one starts over.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-airflow
pins=benchmarks/airflow/requirements.txt
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! "$pins" -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

echo "Setting up $folder, Airflow 3 for the comparison (once; some minutes) ..."
scripts/pinned-venv.sh "$folder" "$pins" "The comparison with Airflow" 3.11
touch "$stamp"
