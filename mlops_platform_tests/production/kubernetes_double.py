"""A Kubernetes for tests: the calls that dagster-k8s makes, and containers that really run, as processes.

It is our double, and no cluster: no image is pulled, no volume is mounted, nothing is scheduled or limited. A container
is a process that has the environment of its image and of its pod and nothing else, so that what a pod is not given is
not there. A job has one pod and no second try, as dagster-k8s asks for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlops_platform.settings import PROJECT_ROOT

TOKEN = "the-token"  # noqa: S105
NAMESPACE = "mlops"
GRACE_SECONDS = 30.0
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass
class Pod:
    """The pod of a job: its process, or why there is none."""

    job: dict[str, Any]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    waiting: str = ""  # the reason why the container does not start
    killed: str = ""  # the reason that the kubelet gives for a killed container
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    @property
    def name(self) -> str:
        return f"{self.job['metadata']['name']}-x7k2p"

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.job["spec"]["template"]["spec"]
        return spec

    @property
    def code(self) -> int | None:
        """The exit code as a shell has it, and none while the container runs or waits."""
        code = self.process.poll() if self.process else None
        return 128 - code if code is not None and code < 0 else code

    def signal(self, number: int) -> None:
        """Send a signal: SIGKILL to all processes of the container, another to the first."""
        if self.process is not None and self.process.poll() is None:
            (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)

    def manifest(self) -> dict[str, Any]:
        """The pod as the API shows it."""
        state: dict[str, dict[str, Any]]
        if self.waiting:
            phase, state = "Pending", {"waiting": {"reason": self.waiting}}
        elif self.code is None:
            phase, state = "Running", {"running": {"startedAt": self.began}}
        else:
            reason = "Completed" if self.code == 0 else self.killed or "Error"
            phase = "Succeeded" if self.code == 0 else "Failed"
            state = {"terminated": {"exitCode": self.code, "reason": reason}}
        (container,) = self.spec["containers"]
        status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        labels = {**self.job["spec"]["template"]["metadata"]["labels"], "job-name": self.job["metadata"]["name"]}
        return {
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": labels},
            "spec": self.spec,
            "status": {"phase": phase, "containerStatuses": [{**status, "ready": phase == "Running", "state": state}]},
        }

    def job_manifest(self) -> dict[str, Any]:
        """The pod's job as the API shows it."""
        count = "active" if self.code is None else "succeeded" if self.code == 0 else "failed"
        return {**self.job, "status": {"startTime": self.began, count: 1}}


class Kubernetes:
    """A namespace: what is there of images, config maps and secrets, and the jobs with their pods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.images: dict[str, dict[str, str]] = {}  # the environment of each
        self.config_maps: dict[str, dict[str, str]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.made: list[Pod] = []  # also what was deleted since
        self.jobs: dict[str, Pod] = {}
        self.pods: dict[str, Pod] = {}
        self.lock = threading.RLock()

    def kubeconfig(self) -> Path:
        """Write the file by which a client finds this server."""
        one = {"name": "double", "cluster": {"server": self.url}, "user": {"token": TOKEN}}
        context = {"name": "double", "context": {"cluster": "double", "user": "double", "namespace": NAMESPACE}}
        path = self.folder / "kubeconfig"
        path.write_text(
            json.dumps({"clusters": [one], "users": [one], "contexts": [context], "current-context": "double"})
        )
        return path

    def out_of_memory(self, pod: Pod) -> None:
        """Kill a container as the kernel does."""
        pod.killed = "OOMKilled"
        pod.signal(signal.SIGKILL)

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request; the status, and what is to become JSON, or a text."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            parts = re.sub(rf"^/(apis/batch/v1|api/v1)/namespaces/{NAMESPACE}/", "", path).split("/")
            selected = query.get("fieldSelector", "").removeprefix("metadata.name=")
            job_name = query.get("labelSelector", "").removeprefix("job-name=")
            match method, parts:
                case "POST", ["jobs"]:
                    return self._create(body)
                case "GET", ["jobs"]:
                    return 200, {"items": [p.job_manifest() for n, p in self.jobs.items() if n == selected]}
                case "GET", ["jobs", name] | ["jobs", name, "status"] if name in self.jobs:
                    return 200, self.jobs[name].job_manifest()
                case "DELETE", ["jobs", name] if name in self.jobs:
                    del self.jobs[name]  # the API leaves the pods, where a client does not ask for more
                    return 200, {"status": "Success"}
                case "GET", ["pods"]:
                    found = [p for n, p in self.pods.items() if n == selected or p.job["metadata"]["name"] == job_name]
                    return 200, {"items": [pod.manifest() for pod in found]}
                case "GET", ["pods", name] if name in self.pods:
                    return 200, self.pods[name].manifest()
                case "GET", ["pods", name, "log"] if name in self.pods:
                    lines = self.pods[name].log.read_text(errors="replace").splitlines(keepends=True)
                    return 200, "".join(lines[-int(query.get("tailLines", 1000)) :])
                case "DELETE", ["pods", name] if name in self.pods:
                    threading.Thread(target=self._stop, args=[self.pods[name]], daemon=True).start()
                    return 200, self.pods[name].manifest()
                case "GET", ["events"]:
                    return 200, {"items": []}
        return 404, {"message": f"{path} not found"}

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        spec = template["spec"]
        (container,) = spec["containers"]
        volumes = [each["name"] for each in spec.get("volumes", [])]
        mounts = container.get("volumeMounts", [])
        paths = [each["mountPath"] for each in mounts]
        labels = [*job["metadata"]["labels"].values(), *template["metadata"]["labels"].values()]
        if name in self.jobs:
            return 409, {"reason": "AlreadyExists"}
        well = _NAME.fullmatch(name) and all(_LABEL.fullmatch(label) for label in labels)
        distinct = len(set(volumes)) == len(volumes) and len(set(paths)) == len(paths)
        if not (well and distinct and {each["name"] for each in mounts} <= set(volumes) and container["image"]):
            return 422, {"reason": "Invalid"}
        assert (job["spec"]["backoffLimit"], spec["restartPolicy"]) == (0, "Never")
        pod = Pod(job, self.folder / f"{name}.log")
        self._start(pod, container)
        self.made.append(pod)
        self.jobs[name] = self.pods[pod.name] = pod
        return 201, pod.job_manifest()

    def _start(self, pod: Pod, container: dict[str, Any]) -> None:
        if container["image"] not in self.images:
            pod.waiting = "ErrImagePull"
            return
        try:
            given: dict[str, str] = {}
            for source in container.get("envFrom", []):
                kind, ref = next(iter(source.items()))
                given |= (self.secrets if kind == "secretRef" else self.config_maps)[ref["name"]]
            for each in container.get("env", []):
                ref = each.get("valueFrom", {}).get("secretKeyRef")
                given[each["name"]] = self.secrets[ref["name"]][ref["key"]] if ref else each.get("value", "")
        except KeyError:
            pod.waiting = "CreateContainerConfigError"
            return
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        pod.environment = {"PATH": path, "HOSTNAME": pod.name, **self.images[container["image"]], **given}
        with pod.log.open("wb") as log:
            pod.process = subprocess.Popen(
                [*container.get("command", []), *container["args"]],
                cwd=PROJECT_ROOT,
                env=pod.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop(self, pod: Pod) -> None:
        pod.signal(signal.SIGTERM)
        if pod.process is not None:
            try:
                pod.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                pod.signal(signal.SIGKILL)
        with self.lock:
            self.pods.pop(pod.name, None)


@contextmanager
def serving(kubernetes: Kubernetes) -> Iterator[Kubernetes]:
    """Serve a double on a free port of 127.0.0.1, and put its address into `url`; at the end its containers end."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            target = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            status = 401
            content: Any = {"reason": "Unauthorized"}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, content = kubernetes.answer(self.command, target.path, dict(parse_qsl(target.query)), body)
            answer = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubernetes.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield kubernetes
    finally:
        server.shutdown()
        server.server_close()
        for pod in kubernetes.made:
            pod.signal(signal.SIGKILL)
            if pod.process is not None:
                pod.process.wait()
