"""Looks at a CSV file's bytes before anything is loaded: is it a CSV in UTF-8, and what does its header say?

One streamed pass also takes what later steps need: the fingerprint and the number of physical lines. Records
and their damage belong to ``csv_records``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

from mlops_platform.errors import SourceError
from mlops_platform.resources.csv_records import LineSource, Reject, read_header
from mlops_platform.resources.sources import require_file
from mlops_platform.resources.table_records import FileRecord

_CHUNK_BYTES = 1 << 20
_HEADER_CHARS = 1_000_000
# What the first bytes of files look like that are taken for a CSV, with the remedy.
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first (gunzip)"),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "export the sheet as CSV"),
    (b"PAR1", "is a Parquet file", "export it as CSV"),
    (b"BZh", "is compressed with bzip2", "unpack it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "is compressed with xz", "unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first (unzstd)"),
    (b"%PDF", "is a PDF", "give a CSV"),
    (codecs.BOM_UTF16_LE, "is encoded in UTF-16", "save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "is encoded in UTF-16", "save it as UTF-8"),
)
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class CsvFile:
    """What the bytes of a CSV say.

    Attributes:
        fingerprint: XXH3 of the bytes, 128 bits in hex.
        lines: Number of physical lines (LF, CRLF or CR), header and blank lines included.
        header: The column names as they stand in the file.
        one_line_header: Whether the header is exactly the first physical line.
        plain: False where the file holds something that ``read_csv`` is known to change in silence.
        size: Bytes.
        ends_line: Whether the last byte ends a line.
        continues: Whether it begins with all of a file that was known; `plain` then speaks of the rest.
    """

    fingerprint: str
    lines: int
    header: tuple[str, ...]
    one_line_header: bool
    plain: bool
    size: int
    ends_line: bool
    continues: bool = False


def inspect_csv(path: Path, source: str, known: FileRecord | None = None) -> CsvFile:
    """Reads the whole file once, in chunks.

    Args:
        path: A local file.
        source: What to call the file in an error.
        known: A file of plain whole lines that this one may continue: what is known of it is not looked at again.

    Raises:
        SourceError: If the file can't be read, is empty, isn't UTF-8, or isn't a CSV.
    """
    require_file(path, source)
    digest, decoder = xxhash.xxh3_128(), codecs.getincrementaldecoder("utf-8")("strict")
    breaks, tail, last, plain = 0, b"", b"", True
    try:
        with path.open("rb") as handle:
            continues = known is not None and _begins_with(handle, digest, known)
            if known is not None and continues:
                breaks, last = known.lines, b"\n"
            elif known is not None:
                handle.seek(0)
                digest = xxhash.xxh3_128()
            while chunk := handle.read(_CHUNK_BYTES):
                if not last:
                    _refuse_other_formats(chunk, source)
                digest.update(chunk)
                line = breaks + 1
                if b"\x00" in chunk:
                    line += _breaks(chunk[: chunk.index(b"\x00")], last)
                    raise SourceError(
                        f"{source} holds a NUL byte at line {line}, as binary files and UTF-16 do; "
                        "save it as CSV in UTF-8."
                    )
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    raise _not_utf8(source, line + _breaks(chunk[: max(error.start, 0)], last)) from None
                if plain:
                    joined = tail + chunk if tail else chunk
                    plain = not _has_quote_and_space(joined) or re.search(rb'" +"', joined) is None
                    stem = joined.rstrip(b" ") if joined.endswith(b" ") else joined
                    tail = joined[len(stem) - 1 :] if stem.endswith(b'"') else b""
                breaks += _breaks(chunk, last)
                last = chunk[-1:]
            size = handle.tell()
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(source, breaks + 1) from None
    except OSError as error:
        raise SourceError(f"{source} cannot be read ({error.strerror}); check the file's permissions.") from error
    header, one_line = _header(path, source)
    lines = breaks + (last not in b"\r\n")
    return CsvFile(digest.hexdigest(), lines, header, one_line, plain, size, last == b"\n", continues)


def _begins_with(handle: BinaryIO, digest: xxhash.xxh3_128, known: FileRecord) -> bool:
    """Feeds as many bytes as a known file has to the digest, and says whether they are that file."""
    left = known.size
    while left and (chunk := handle.read(min(_CHUNK_BYTES, left))):
        digest.update(chunk)
        left -= len(chunk)
    return not left and digest.hexdigest() == known.fingerprint


def match_columns(header: Iterable[str], columns: Iterable[str], source: str) -> dict[str, int]:
    """Finds each declared column in the header; letter case and spaces around a name don't count.

    Returns:
        Column name to its position in the header, in the order of `columns`.

    Raises:
        SourceError: If a name stands twice in the header, or a column is missing.
    """
    header, columns = list(header), list(columns)
    positions: dict[str, int] = {}
    for position, name in enumerate(header):
        key = name.strip().casefold()
        if key and positions.setdefault(key, position) != position:
            raise SourceError(f"{source} has the column {name.strip()!r} twice in its header; remove or rename one.")
    missing = [name for name in columns if name.casefold() not in positions]
    if missing:
        for delimiter, plural in _DELIMITERS.items():
            found = {name.strip().strip('"').casefold() for name in ",".join(header).split(delimiter)}
            if all(name.casefold() in found for name in columns):
                raise _delimited(source, plural)
        shown = ", ".join(repr(name.strip()[:40]) for name in header[:10])
        raise SourceError(
            f"{source} has no column {', '.join(map(repr, missing))} (its first line names {shown}); the "
            f"first line must name {', '.join(columns)}, separated by commas."
        )
    return {name: positions[name.casefold()] for name in columns}


def _breaks(chunk: bytes, last: bytes) -> int:
    """Counts line breaks; CRLF is one, also where the border to the chunk that ended in `last` cuts it."""
    import numpy as np

    if last != b"\r" and b"\r" not in chunk:
        # bytes.count takes two and a half times as long where lines are short
        return int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord("\n")))
    split = last == b"\r" and chunk.startswith(b"\n")
    return chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n") - split


def _has_quote_and_space(chunk: bytes) -> bool:
    """Looks for '" ' in a third of the time of an expression: most chunks hold none."""
    import numpy as np

    codes = np.frombuffer(chunk, np.uint8)
    return bool(np.any((codes[:-1] == ord('"')) & (codes[1:] == ord(" "))))


def _not_utf8(source: str, line: int) -> SourceError:
    return SourceError(
        f"{source} is not encoded in UTF-8 (first bad byte near line {line}); save it as UTF-8, for example "
        "with iconv -f latin1 -t utf-8."
    )


def _delimited(source: str, plural: str) -> SourceError:
    return SourceError(f"{source} is separated by {plural}; save it with commas between the fields.")


def _refuse_other_formats(first: bytes, source: str) -> None:
    for magic, what, remedy in _OTHER_FORMATS:
        if first.startswith(magic):
            raise SourceError(f"{source} {what}; {remedy}.")
    start = first.removeprefix(codecs.BOM_UTF8).lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise SourceError(
            f"{source} is a web page or XML, not a CSV (a login or error page, perhaps); use the address of "
            "the CSV file itself."
        )


def _header(path: Path, source: str) -> tuple[tuple[str, ...], bool]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        if len(handle.readline(_HEADER_CHARS)) == _HEADER_CHARS:
            raise SourceError(
                f"{source} has a first line of {_HEADER_CHARS:,} characters or more; "
                "the first line must name the columns."
            )
        handle.seek(0)
        lines = LineSource(handle)
        record = read_header(lines)
    if record is None:
        raise SourceError(f"{source} holds only blank lines; give a CSV with a header and rows.")
    if isinstance(record, Reject):
        for delimiter, plural in _DELIMITERS.items():
            if record.text.count(delimiter) > record.text.count(","):
                raise _delimited(source, plural)
        raise SourceError(f"{source} has a damaged header at line {record.line}: {record.reason}; repair the header.")
    return tuple(field or "" for field in record.fields), lines.number == 1
