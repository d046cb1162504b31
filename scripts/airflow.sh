#!/bin/sh
# Makes .venv-airflow/, the environment that `make bench` measures: Airflow 3 and the platform's libraries in one
# environment, so that a task calls them without a second Python. The platform itself is found by PYTHONPATH.
# Airflow's own constraints are on GitHub; these pins are what was tested.
# A set-up that was cut off has left no stamp, and the next one begins anew.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-airflow
pins=benchmarks/airflow/requirements.txt
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! "$pins" -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

echo "Setting up $folder, Airflow 3 for the comparison (once; some minutes) ..."
scripts/pinned-venv.sh "$folder" "$pins" "The comparison with Airflow" 3.11
touch "$stamp"
