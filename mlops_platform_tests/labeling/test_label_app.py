"""The labeling page's server over real HTTP: what it tells, what it takes, whom it refuses."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import requests

from mlops_platform.resources.labels.label_log import Label, append, now
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.labeling.home import BIG_ID, CV, MLOPS, NLP, OTHER, ROWS, LabelHome, Server, served

SECONDS = 20


class Client:
    """What the page asks."""

    def __init__(self, server: Server) -> None:
        self.url = f"http://127.0.0.1:{server.port}"
        self.headers = {"X-Label-Token": server.token}

    def queue(self) -> dict:
        answer = requests.get(f"{self.url}/api/queue", headers=self.headers, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        found: dict = answer.json()
        return found

    def give(self, key: int, tag: str, source: str = "page", **headers: str) -> requests.Response:
        return requests.post(
            f"{self.url}/api/labels",
            json={"id": key, "tag": tag, "source": source},
            headers={**self.headers, **headers},
            timeout=SECONDS,
        )


@pytest.fixture
def server(home: LabelHome) -> Iterator[Server]:
    with served(home) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


def test_the_queue_is_told_with_all_that_the_page_shows(client: Client) -> None:
    told = client.queue()
    assert told["person"] == "ann"
    counts = {each["tag"]: each["count"] for each in told["classes"]}
    assert counts == {NLP: 1, CV: 0, MLOPS: 0, OTHER: 0}
    assert [row["id"] for row in told["rows"]] == [str(row[0]) for row in ROWS]
    assert [row["given"] for row in told["rows"]] == [NLP if row[0] == 15 else None for row in ROWS]
    assert told["rows"][0]["neighbours"] == [{"title": "Neighbour 0", "tag": CV}, {"title": "Neighbour 1", "tag": NLP}]
    assert (told["labels"], told["history"]) == ({}, [])


def test_a_label_is_in_the_log_when_it_is_answered_and_can_be_taken_back(home: LabelHome, client: Client) -> None:
    assert client.give(11, MLOPS).json() == {"id": "11", "tag": MLOPS}
    assert home.labels() == [(11, MLOPS, "ann")]
    client.give(BIG_ID, CV)
    client.give(11, OTHER)
    assert client.queue()["labels"] == {"11": OTHER, str(BIG_ID): CV}
    client.give(11, MLOPS, "page-undo")
    told = client.queue()
    assert told["labels"] == {"11": MLOPS, str(BIG_ID): CV}
    assert [(each["id"], each["before"]) for each in told["history"]] == [("11", ""), (str(BIG_ID), "")]
    client.give(BIG_ID, "", "page-undo")
    assert client.queue()["labels"] == {"11": MLOPS}
    assert home.labels()[-1] == (BIG_ID, "", "ann")
    # the last row was drawn at random, and such rows alone measure a champion
    assert [each.source for each in home.entries()] == ["page", "page-random", "page", "page-undo", "page-undo"]


def test_an_imported_label_is_no_step_but_comes_back_by_undoing(home: LabelHome, client: Client) -> None:
    append(home.log, [Label(11, NLP, now(), "ann", "import-abc"), Label(12, NLP, now(), "bob", "page")])
    client.give(11, CV)
    told = client.queue()
    assert told["labels"] == {"11": CV}
    assert told["history"] == [{"id": "11", "tag": CV, "before": NLP}]


@pytest.mark.parametrize(
    ("key", "tag", "status", "says"),
    [
        (11, "gardening", 422, "'gardening' is not a tag; it must be one of natural-language-processing"),
        (11, "", 422, "'' is not a tag"),
        (99, MLOPS, 404, "Project 99 is not in the queue"),
    ],
)
def test_what_is_no_label_of_the_queue_is_refused(
    home: LabelHome, client: Client, key: int, tag: str, status: int, says: str
) -> None:
    answer = client.give(key, tag)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(says)
    assert home.labels() == []


def test_other_sites_and_other_users_are_refused(home: LabelHome, client: Client) -> None:
    assert client.give(11, MLOPS, **{"X-Label-Token": "guessed"}).status_code == 403
    assert client.give(11, MLOPS, **{"X-Label-Token": "\u00e4"}).status_code == 403
    plain = requests.post(f"{client.url}/api/labels", data='{"id": 11, "tag": "mlops"}', timeout=SECONDS)
    assert plain.status_code == 403
    assert requests.get(f"{client.url}/api/queue", timeout=SECONDS).status_code == 403
    # a name of another site that was made to point here, with whatever it has learnt
    assert client.give(11, MLOPS, Host="evil.example").status_code == 400
    assert requests.get(client.url, headers={"Host": "evil.example:80"}, timeout=SECONDS).status_code == 400
    assert home.labels() == []


def test_a_body_that_is_too_large_or_no_json_is_refused(home: LabelHome, client: Client) -> None:
    for body, status in ((b"x" * 20_000, 413), (b"{", 422), (b'{"id": "eleven", "tag": "mlops"}', 422)):
        headers = {**client.headers, "Content-Type": "application/json"}
        answer = requests.post(f"{client.url}/api/labels", data=body, headers=headers, timeout=SECONDS)
        assert answer.status_code == status, body
        assert "detail" in answer.json()
    assert home.labels() == []


@pytest.mark.parametrize("name", ["", "page.css", "page.js"])
def test_the_files_of_the_page_need_nothing_from_elsewhere(client: Client, name: str) -> None:
    answer = requests.get(f"{client.url}/{name}", timeout=SECONDS)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert requests.get(f"{client.url}/..%2Fapp.py", timeout=SECONDS).status_code == 404


def test_the_warehouse_is_free_while_people_label(home: LabelHome, client: Client) -> None:
    client.queue()
    with duckdb.connect(str(home.settings.warehouse_path)) as connection:
        connection.execute("CREATE TABLE written AS SELECT 1")


def test_two_people_label_at_once_and_both_are_kept(home: LabelHome, client: Client) -> None:
    with served(home, "bob") as second:
        bob = Client(second)
        for key, _, _, _, guess in ROWS:
            assert client.give(key, guess).ok
            assert bob.give(key, OTHER).ok
        assert len(home.labels()) == 2 * len(ROWS)
        assert set(bob.queue()["labels"].values()) == {OTHER}
        assert client.queue()["labels"]["11"] == MLOPS


def test_a_killed_server_loses_no_label_that_it_answered(home: LabelHome) -> None:
    with served(home) as server:
        client = Client(server)
        for key, *_ in ROWS[:3]:
            assert client.give(key, MLOPS).ok
        server.kill()
    with served(home) as server:
        client = Client(server)
        assert set(client.queue()["labels"]) == {"11", "12", "13"}
        assert client.give(14, CV).ok
    assert [key for key, *_ in home.labels()] == [11, 12, 13, 14]


def test_a_log_that_is_damaged_meanwhile_is_told(home: LabelHome, client: Client) -> None:
    client.give(11, MLOPS)
    home.log.write_bytes(b"nonsense" * 1000)
    answer = requests.get(f"{client.url}/api/queue", headers=client.headers, timeout=SECONDS)
    assert answer.status_code == 503
    assert f"The event log {home.log} cannot be read (" in answer.json()["detail"]


def test_it_ends_with_an_interrupt(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    out, _ = server.process.communicate(timeout=SECONDS)
    assert "Traceback" not in out


def test_what_keeps_it_from_starting_is_a_sentence(home: LabelHome, server: Server, tmp_path: Path) -> None:
    def refused(folder: Path, *arguments: str) -> str:
        answer = run_mlops(folder, "label", "--no-browser", *arguments)
        assert answer.returncode in (1, 2)
        assert "Traceback" not in answer.stderr
        return answer.stderr

    there = home.settings.home
    assert "is not available (Address already in use): stop what listens there, or set MLOPS_LABEL_PORT" in refused(
        there, "--port", str(server.port)
    )
    assert "There is no labeling queue yet: run `mlops run`" in refused(tmp_path / "empty")
    assert "is not a person's name" in refused(there, "--as", " ")
    home.log.write_bytes(b"nonsense" * 1000)
    assert f"The event log {home.log} cannot be read (" in refused(there, "--port", "8999")
