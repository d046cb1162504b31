"""A CSV is loaded whole or not at all, and its rejects with it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.csv_ingest import csv_loader
from mlops_platform_tests.resources.csv_loader import TAGS, Loader


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,tag\n", "the file has a header and no rows; the table keeps its old content."),
        ("id,tag\n\n \n", "the file has a header and no rows"),
        (
            "id,tag\nx,a\ny,b\n",
            'the file has no row that can be read (2 lines rejected; line 2: "x" is not a',
        ),
        ("id,label\n1,a\n", "the file has no column 'tag'"),
        ("id;tag\n1;a\n", "the file is separated by semicolons"),
        ("id,tag\n1,\u00e9\n".encode("latin-1"), "the file is not encoded in UTF-8"),
        ("", "the file is empty"),
    ],
)
def test_a_refused_file_leaves_table_and_rejects(loader: Loader, content: str | bytes, sentence: str) -> None:
    loader.load("id,tag\n1,old\nx,bad\n", TAGS)
    before = loader.rows(), loader.rejects()
    with pytest.raises(SourceError) as caught:
        loader.load(content, TAGS)
    assert str(caught.value).startswith(sentence)
    assert (loader.rows(), loader.rejects()) == before


def test_an_error_inside_the_transaction_leaves_table_and_rejects(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.load("id,tag\n1,old\nx,bad\n", TAGS)
    before = loader.rows(), loader.rejects()

    def fail(*_: object) -> str:
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(csv_loader, "table_version", fail)
        with pytest.raises(RuntimeError, match="disk full"):
            loader.load("id,tag\n2,new\n", TAGS)
    assert (loader.rows(), loader.rejects()) == before
    assert loader.load("id,tag\n2,new\n", TAGS).rows == 1


def test_a_file_that_changes_while_it_is_read_is_refused(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    read = csv_loader.read_accounted

    def grow(*arguments: Any) -> int:
        with loader.path.open("a") as handle:
            handle.write("3,late\n")
        return read(*arguments)

    monkeypatch.setattr(csv_loader, "read_accounted", grow)
    with pytest.raises(SourceError, match="changed while it was being read"):
        loader.load("id,tag\n1,a\n", TAGS)


def test_a_full_disk_is_said_plainly(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    loader.load("id,tag\n1,old\n", TAGS)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(csv_loader, "_write_record", full)
    with pytest.raises(WarehouseError, match=r"No space left on device.*set TMPDIR"):
        loader.load("id,tag\n2,new\nx,bad\n", TAGS)
    assert loader.rows() == [(1, "old")]


def test_a_load_replaces_its_own_rejects_only(loader: Loader) -> None:
    loader.load("id,tag\n1,a\nx,b\n", TAGS, table="one")
    loader.load("id,tag\n1,a\ny,b\n", TAGS, table="two")
    loader.load("id,tag\n1,a\n", TAGS, table="one")
    assert (loader.rejects("one"), len(loader.rejects("two"))) == ([], 1)


def test_tables_of_an_older_shape_are_replaced(loader: Loader) -> None:
    loader.connection.execute("CREATE TABLE t (id VARCHAR); CREATE TABLE rejects (file VARCHAR, line INTEGER)")
    assert loader.load("id,tag\n1,a\nx,b\n", TAGS).rejected == 1
    assert loader.rows() == [(1, "a")]
    assert len(loader.rejects()) == 1


def test_the_same_content_has_the_same_version(loader: Loader) -> None:
    first = loader.load("id,tag\n1,a\n2,b\n", TAGS)
    second = loader.load('tag,id\r\n"b",2\r\n"a",1\r\n', TAGS)
    third = loader.load("id,tag\n1,a\n2,c\n", TAGS)
    assert first.version == second.version != third.version
    assert first.fingerprint != second.fingerprint
