"""Downloads a file of weights: only when a user asks, going on where a broken download ended, verified, whole."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from adaflow.core.files import file_error, open_own, sync_folder
from adaflow.core.lock import try_lock
from adaflow.core.weights import WeightsFile, check_sha256, digest, read_file
from adaflow.errors import FileError, UsageError

CHUNK = 1 << 18
TIMEOUT = 30
"""Seconds without a byte after which a download has failed."""

MOST_BYTES = 4 << 30


def fetch(
    weights: WeightsFile,
    url: str = "",
    sha256: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Download weights into the user's cache, unless they are there.

    Args:
        weights: which.
        url: another place to get the file from, http or https; "" for where it is published.
        sha256: what the user says the SHA-256 is; "" for that of the published file.
        progress: told bytes done and in all.

    Returns:
        The file.

    Raises:
        UsageError: `url` or `sha256` is none.
        FileError: it cannot be had, is another file, or cannot be written.
    """
    url = url or weights.url
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is no address", "It begins with https:// or http://.")
    check_sha256(sha256)
    wanted = sha256 or weights.sha256
    weights.make_folder()
    if weights.path.is_file() and digest(read_file(weights.path)) == wanted:
        weights.vouch(sha256)
        return weights.path
    partial = weights.path.with_name(f".{weights.name}.{wanted[:8]}.partial")
    try:
        with open_own(partial) as file:
            if not try_lock(file):
                raise FileError(f"another process is downloading {weights.name}", "Wait for it.")
            _download(url, file, progress)
            file.flush()
            found = digest(read_file(partial))
            if found != wanted:
                partial.unlink()
                raise FileError(
                    f"what came from {url} is not {weights.name}: its SHA-256 is {found}, not {wanted}",
                    "It was thrown away. Try again, or from another place with --url.",
                )
            partial.replace(weights.path)
            sync_folder(weights.path.parent)
    except OSError as error:
        raise file_error(weights.path, error) from error
    weights.vouch(sha256)
    return weights.path


def _download(url: str, file: io.BufferedRandom, progress: Callable[[int, int], None]) -> None:
    """Get what `file` lacks of the content of `url`.

    Raises:
        FileError: the server cannot be reached, answers no, or stops early.
    """
    done = file.seek(0, io.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    hint = "Try again: it goes on where it ended. Or bring the file from elsewhere: adaflow features add NAME FILE"
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:  # the whole file, whatever was asked for
                done = file.seek(0)
                file.truncate()
            total = done + int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > MOST_BYTES:
                    raise FileError(f"{url} sends more than {MOST_BYTES >> 30} GiB", "It cannot be the right file.")
                progress(done, max(total, done))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise FileError(f"{url} cannot be downloaded: the server says {error.code} {error.reason}", hint) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(f"{url} cannot be downloaded: {reason}", hint) from error
    if done < total:
        raise FileError(f"{url} ended after {done} of {total} bytes", hint)
