#!/bin/sh
# Create an environment from a complete, tested set of pins, hence --no-deps:
# `pinned-venv.sh FOLDER PINS WHAT VERSION...`, with the Python versions that WHAT supports, the preferred one first.
set -eu
folder=$1 pins=$2 what=$3
shift 3

python=
for version in "$@"; do
    for candidate in .venv/bin/python "python$version" python3 "$HOME"/.pyenv/versions/"$version"*/bin/python; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$version'.split('.'))))" 2>/dev/null
        then python=$candidate; break 2; fi
    done
done
if [ -z "$python" ] && ! command -v uv >/dev/null 2>&1; then
    echo "$what needs Python $(echo "$*" | sed 's/ / or /g'): install it, or install uv, which fetches it." >&2
    exit 1
fi

if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python "${python:-$1}" "$folder"
    uv pip install --quiet --compile-bytecode --python "$folder/bin/python" --no-deps --requirement "$pins"
else
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$pins"
fi
