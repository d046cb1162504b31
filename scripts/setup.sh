#!/bin/sh
# Create .venv/ with pinned versions: `setup.sh run` for the platform, `setup.sh dev` with the development tools.
# An interrupted set-up leaves no stamp, and the next one resumes.
set -eu
kind=$1

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if fits "$candidate"; then python=$candidate; break; fi
    done
fi
if [ -z "$python" ] || ! fits "$python"; then
    echo "Python 3.11, 3.12 or 3.13 is needed: install it (Debian: apt-get install python3 python3-venv) or set PYTHON." >&2
    exit 1
fi

target=.
[ "$kind" = dev ] && target='.[dev]'

if command -v uv >/dev/null 2>&1; then
    echo "Setting up .venv with uv (once; some minutes on a slow line) ..."
    [ -x .venv/bin/python ] && fits .venv/bin/python || uv venv --quiet --clear --python "$python" .venv
    uv pip install --quiet --compile-bytecode --python .venv/bin/python --constraint constraints.txt --editable "$target"
else
    echo "Setting up .venv with pip (once; some minutes on a slow line) ..."
    if ! { [ -x .venv/bin/python ] && fits .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
        if ! "$python" -m venv --clear .venv; then
            rm -rf .venv
            echo "Python's venv module does not work: install it (Debian: apt-get install python3-venv), or install uv." >&2
            exit 1
        fi
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable "$target"
fi

# the development set-up includes the plain one
touch .venv/.installed-run
if [ "$kind" = dev ]; then touch .venv/.installed-dev; fi
