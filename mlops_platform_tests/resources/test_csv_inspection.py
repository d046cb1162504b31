"""What is refused before a load, and what one pass over the bytes takes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import xxhash

from mlops_platform.errors import SourceError
from mlops_platform.resources.csv_ingest import inspection
from mlops_platform.resources.csv_ingest.inspection import inspect_csv, match_columns

GOOD = b"id,tag\n1,a\n2,b\n"


def write(folder: Path, content: bytes) -> Path:
    path = folder / "tags.csv"
    path.write_bytes(content)
    return path


def test_takes_header_lines_and_fingerprint(tmp_path: Path) -> None:
    file = inspect_csv(write(tmp_path, GOOD), "tags.csv")
    assert (file.header, file.lines, file.plain) == (("id", "tag"), 3, True)
    assert file.fingerprint == xxhash.xxh3_128(GOOD).hexdigest()


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"a\nb", 2), (b"a\r\nb\r\n", 2), (b"a\rb\r", 2), (b"a\n\r\n\nb\r\r\n", 5), (b"\xef\xbb\xbfa", 1)],
)
@pytest.mark.parametrize("chunk", [1, 2, 1 << 20])
def test_counts_physical_lines_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, lines: int, chunk: int
) -> None:
    monkeypatch.setattr(inspection, "_CHUNK_BYTES", chunk)
    assert inspect_csv(write(tmp_path, content), "x").lines == lines


@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
def test_sees_quotes_with_only_spaces_between_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(inspection, "_CHUNK_BYTES", chunk)
    assert not inspect_csv(write(tmp_path, b'id,tag\n1,"a"   "b"\n'), "x").plain
    assert inspect_csv(write(tmp_path, b'id,tag\n1,"a" ,"b"\n'), "x").plain


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "x.csv is empty"),
        (b"\xef\xbb\xbf\n  \n", "x.csv holds only blank lines"),
        (
            "id,tag\n1,a\n2,é\n".encode("latin-1"),
            "x.csv is not encoded in UTF-8 (first bad byte near line 3)",
        ),
        (GOOD + b"\xc3", "x.csv is not encoded in UTF-8 (first bad byte near line 4)"),
        ("id,tag\n1,a\n".encode("utf-16"), "x.csv is encoded in UTF-16; save it as UTF-8"),
        ("id,tag\n1,a\n".encode("utf-16-le"), "x.csv holds a NUL byte at line 1"),
        (b"id,tag\n1,a\n2,\x00b\n", "x.csv holds a NUL byte at line 3"),
        (gzip.compress(GOOD, mtime=0), "x.csv is compressed with gzip; unpack it first"),
        (b"PAR1\x15\x04", "x.csv is a Parquet file"),
        (b"PK\x03\x04rest", "x.csv is a zip archive or an Excel workbook"),
        (b"\n <!DOCTYPE html><html></html>", "x.csv is a web page or XML"),
        (b'id,"tag\n1,a\n', "x.csv has a damaged header at line 1: a quote is opened and never closed"),
        (b'"id";"tag"\n1;a\n', "x.csv is separated by semicolons"),
    ],
)
def test_refuses_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(SourceError) as caught:
        inspect_csv(write(tmp_path, content), "x.csv")
    assert str(caught.value).startswith(sentence)


def test_a_bad_byte_behind_the_first_chunk_is_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_CHUNK_BYTES", 8)
    with pytest.raises(SourceError, match="line 4"):
        inspect_csv(write(tmp_path, b"id,tag\n1,aa\n2,bb\n3,\xff\n"), "x")


def test_an_endless_first_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="first line of 1,000,000 characters or more"):
        inspect_csv(write(tmp_path, b"x" * 1_500_000), "x")


def test_names_match_without_case_and_spaces_in_any_order() -> None:
    assert match_columns(["Tag ", "", "", " ID"], ["id", "tag"], "x") == {"id": 3, "tag": 0}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (["id", "tag", " ID "], "x has the column 'ID' twice in its header"),
        (
            ["id", "label"],
            "x has no column 'tag' (its first line names 'id', 'label'); the first line must name",
        ),
        (["ID;Tag;more"], "x is separated by semicolons; save it with commas"),
        (["id\ttag"], "x is separated by tabs"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: list[str], sentence: str) -> None:
    with pytest.raises(SourceError) as caught:
        match_columns(header, ["id", "tag"], "x")
    assert str(caught.value).startswith(sentence)
