#!/bin/sh
# Makes an environment from a whole set of pins that was tested, hence --no-deps:
# `pinned-venv.sh FOLDER PINS WHAT VERSION...`, with the versions of Python that WHAT runs on, the first one preferred.
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
