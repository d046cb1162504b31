"""Fetch a source, given as a path or an http(s) URL, to a local file, whatever its content."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import xxhash

from mlops_platform.errors import SourceError

SOURCE_FINGERPRINT = "source_fingerprint"  # metadata key: `fingerprint` of the file that an asset was loaded from

_CHUNK_BYTES = 1 << 20
_RETRIES = 3
_RETRY_STATUS = (429, 500, 502, 503, 504)
_BACKOFF_SECONDS = 0.2  # doubled with each retry
_LONGEST_PAUSE = 20  # seconds of a server's Retry-After that are waited for


@dataclass(frozen=True)
class Source:
    """A source as a local file; `name` is its address without credentials, for errors and metadata."""

    name: str
    path: Path


@contextmanager
def fetched(uri: str, timeout: float) -> Iterator[Source]:
    """Yield the file at a path or http(s) URL as a local file; a download is deleted at the end.

    `timeout` is in seconds, for a connection and between two parts of the response.
    """
    name = display_name(uri)
    if not is_url(uri):
        path = Path(uri).expanduser()
        require_file(path, name)
        yield Source(name, path)
        return
    if urlsplit(uri).scheme not in ("http", "https"):
        raise SourceError(f"{name} is neither a path nor an http(s) URL; download the file and give its path.")
    with tempfile.TemporaryDirectory(prefix="mlops-source-") as folder:
        path = Path(folder) / "download"
        _download(uri, name, path, timeout)
        yield Source(name, path)


def is_url(uri: str) -> bool:
    """Return whether an address is a URL rather than a path."""
    return "://" in uri


def display_name(uri: str) -> str:
    """Return an address without the secrets of a URL: user, password and query."""
    if not is_url(uri):
        return uri
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fingerprint(path: Path) -> str:
    """Return the XXH3 of a file's bytes, 128 bits in hex: fast, but no protection against forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def require_file(path: Path, source: str) -> os.stat_result:
    """Return the status of a file.

    Raises:
        SourceError: It doesn't exist, is empty, or is not a regular file.
    """
    try:
        if path.is_file():
            status = path.stat()
        elif path.is_dir():
            raise SourceError(f"{source} is a folder; give the CSV file in it.")
        elif path.exists():
            raise SourceError(f"{source} is not a regular file; give a CSV file.")
        else:
            raise SourceError(f"{source} does not exist; check the path.")
    except (OSError, ValueError) as error:  # a name that is too long, or a NUL in it
        raise SourceError(f"{source} is not a path that can be opened ({error}); check the path.") from error
    if status.st_size == 0:
        raise SourceError(f"{source} is empty; give a CSV with a header and rows.")
    return status


def _download(uri: str, name: str, path: Path, timeout: float) -> None:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        total=_RETRIES,
        status_forcelist=_RETRY_STATUS,
        allowed_methods=["GET"],
        backoff_factor=_BACKOFF_SECONDS,
        retry_after_max=_LONGEST_PAUSE,
        raise_on_status=False,
    )
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        for attempt in range(_RETRIES + 1):
            try:
                with session.get(uri, stream=True, timeout=timeout) as response:
                    if not response.ok:
                        raise SourceError(_refusal(name, response.status_code))
                    with path.open("wb") as handle:
                        for chunk in response.iter_content(_CHUNK_BYTES):
                            handle.write(chunk)
                return
            except requests.exceptions.ChunkedEncodingError as error:  # urllib3 does not retry a broken response
                if attempt == _RETRIES:
                    raise SourceError(
                        f"{name} broke off in the middle of the download, {attempt + 1} times; try later."
                    ) from error
                time.sleep(_BACKOFF_SECONDS * 2**attempt)
            except requests.exceptions.RequestException as error:
                raise SourceError(_unreachable(name, error, timeout)) from error
            except OSError as error:  # behind RequestException, which is an OSError too
                raise SourceError(
                    f"{name} cannot be saved to {path.parent} ({error.strerror}); free some space there, or "
                    "set TMPDIR to another folder."
                ) from error


def _refusal(name: str, status: int) -> str:
    if status in (404, 410):
        return f"{name} does not exist on the server (HTTP {status}); check the URL."
    if status in (401, 403):
        return f"{name} needs a login (HTTP {status}); check the URL's credentials, or give a downloaded file."
    if status in _RETRY_STATUS:
        return f"{name} is not available (HTTP {status} after {_RETRIES} retries); try again later."
    return f"{name} cannot be fetched (HTTP {status}); check the URL."


def _unreachable(name: str, error: Exception, timeout: float) -> str:
    import requests

    text = str(error)
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return f"{name} did not answer within {timeout:g} s; try again later, or raise MLOPS_FETCH_TIMEOUT."
    if "NameResolution" in text or "getaddrinfo" in text:
        return f"{name} names a host that cannot be found; check the URL and the network."
    if isinstance(error, requests.exceptions.SSLError):
        return f"{name} has no certificate that this machine trusts; check the URL, or give a downloaded file."
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return f"{name} redirects in a circle; check the URL."
    if isinstance(error, requests.exceptions.InvalidURL):
        return f"{name} is not a valid URL; check it."
    return f"{name} cannot be reached (is the server up?); check the URL and the network."
