"""Inspect a CSV file's bytes before anything is loaded: whether it is a CSV in UTF-8, and what its header says.

The one streamed pass also returns the fingerprint and the number of physical lines, which the load needs. Records and
their damage belong to ``parser``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import xxhash

from mlops_platform.errors import SourceError
from mlops_platform.resources.csv_ingest.parser import LineSource, Reject, read_header
from mlops_platform.resources.csv_ingest.source_file import require_file

_CHUNK_BYTES = 1 << 20
_HEADER_CHARS = 1_000_000
# first bytes of files that people take for a CSV, with the remedy
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
    """The facts that a load needs of a CSV's bytes.

    Attributes:
        fingerprint: XXH3 of the bytes, 128 bits in hex.
        lines: Number of physical lines (LF, CRLF or CR), header and blank lines included.
        header: The column names as they stand in the file.
        plain: Whether the header is exactly the first physical line, and the file holds nothing that ``read_csv`` is
            known to change in silence.
    """

    fingerprint: str
    lines: int
    header: tuple[str, ...]
    plain: bool


def inspect_csv(path: Path, source: str) -> CsvFile:
    """Read the whole file once, in chunks; `source` is its name in errors.

    Raises:
        SourceError: The file can't be read, is empty, isn't UTF-8, or isn't a CSV.
    """
    require_file(path, source)
    digest, lines, plain, last = xxhash.xxh3_128(), 0, True, b""
    try:
        with path.open("rb") as handle:
            # up to the end of a line (LF), so that nothing that is looked for lies across two chunks
            while chunk := handle.read(_CHUNK_BYTES) + handle.readline():
                if not last:
                    _refuse_other_formats(chunk, source)
                digest.update(chunk)
                nul = chunk.find(b"\x00")
                if nul >= 0:
                    raise SourceError(
                        f"{source} holds a NUL byte at line {lines + 1 + _breaks(chunk[:nul])}, as binary files and "
                        "UTF-16 do; save it as CSV in UTF-8."
                    )
                try:
                    chunk.decode()
                except UnicodeDecodeError as error:
                    raise SourceError(
                        f"{source} is not encoded in UTF-8 (first bad byte near line "
                        f"{lines + 1 + _breaks(chunk[: error.start])}); save it as UTF-8, for example with "
                        "iconv -f latin1 -t utf-8."
                    ) from None
                plain = plain and (b'" ' not in chunk or re.search(rb'" +"', chunk) is None)
                lines += _breaks(chunk)
                last = chunk[-1:]
    except OSError as error:
        raise SourceError(f"{source} cannot be read ({error.strerror}); check the file's permissions.") from error
    header, one_line = _header(path, source)
    return CsvFile(digest.hexdigest(), lines + (last not in b"\r\n"), header, plain and one_line)


def match_columns(header: Iterable[str], columns: Iterable[str], source: str) -> dict[str, int]:
    """Return each declared column's position in the header; letter case and spaces around a name don't count.

    Raises:
        SourceError: A name stands twice in the header, or a column is missing.
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
            names = {name.strip().strip('"').casefold() for name in ",".join(header).split(delimiter)}
            if all(name.casefold() in names for name in columns):
                raise _delimited(source, plural)
        shown = ", ".join(repr(name.strip()[:40]) for name in header[:10])
        raise SourceError(
            f"{source} has no column {', '.join(map(repr, missing))} (its first line names {shown}); the "
            f"first line must name {', '.join(columns)}, separated by commas."
        )
    return {name: positions[name.casefold()] for name in columns}


def _breaks(chunk: bytes) -> int:
    """Count line breaks; CRLF is one."""
    breaks = chunk.count(b"\n")
    return breaks + chunk.count(b"\r") - chunk.count(b"\r\n") if b"\r" in chunk else breaks


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
