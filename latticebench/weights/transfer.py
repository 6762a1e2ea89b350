"""Brings one file here: through huggingface-hub, or by https where there is no hub. Both resume."""

import contextlib
import fnmatch
import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from latticebench.errors import BadInput, LatticebenchError, Missing
from latticebench.weights.registry import Entry, stays_inside

CHUNK = 2**20
ATTEMPTS = 5
"""Times an interrupted https download is taken up again before it is left for the next call."""
TIMEOUT = 30
"""Seconds without an answer."""
ROOM = 2**26
"""Bytes that stay free on the disk."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Remote(NamedTuple):
    """What the server says before the download: path or address, bytes, sha256 and commit where it knows them."""

    location: str
    size: int | None
    sha256: str | None
    revision: str | None


def inspect(entry: Entry, mirror: str | None) -> Remote:
    """Asks the server about a file. Raises Missing where it is not there, closed, or the server does not answer."""
    return _inspect_hub(entry, mirror) if entry.hub else _inspect_url(entry, mirror)


def download(entry: Entry, remote: Remote, folder: Path, mirror: str | None) -> Path:
    """Brings the file into `folder` and returns its path; parts of an earlier attempt there are taken up.

    Raises Missing as `inspect`, LatticebenchError where the connection breaks for good or the disk is full.
    """
    check_room(folder, (remote.size or 0), entry.name)
    return _download_hub(entry, remote, folder, mirror) if entry.hub else _download_url(entry, remote, folder)


def check_room(folder: Path, size: int, name: str) -> None:
    """Raises LatticebenchError where fewer than `size` bytes and a margin are free."""
    free = shutil.disk_usage(folder).free
    if free < size + ROOM:
        raise LatticebenchError(
            f"{name} needs {size / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free; "
            "make room, or name another folder with --folder"
        )


# The hub ---------------------------------------------------------------------------------------------------------


def _inspect_hub(entry: Entry, mirror: str | None) -> Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    assert entry.hub is not None
    with _hub_errors(entry, mirror):
        file = entry.hub.get("file") or _only_match(entry, mirror)
        address = hf_hub_url(entry.hub["repository"], file, revision=entry.hub["revision"], endpoint=mirror)
        found = get_hf_file_metadata(address, endpoint=mirror)
    etag = found.etag or ""
    return Remote(file, found.size, etag if _SHA256.fullmatch(etag) else None, found.commit_hash)


def _only_match(entry: Entry, mirror: str | None) -> str:
    from huggingface_hub import HfApi

    assert entry.hub is not None
    hub = entry.hub
    tree = HfApi(endpoint=mirror).list_repo_tree(
        hub["repository"], path_in_repo=hub["folder"], recursive=True, revision=hub["revision"]
    )
    names = [item.path for item in tree if type(item).__name__ == "RepoFile"]
    matches = [name for name in names if fnmatch.fnmatch(name.rsplit("/", 1)[-1], hub["pattern"])]
    if len(matches) != 1:
        raise BadInput(
            f"{entry.name}: {len(matches)} files match {entry.place} ({', '.join(matches) or 'of ' + str(names)}); "
            "write the one you mean as `file` in the registry"
        )
    if not stays_inside(matches[0]):
        raise BadInput(f"{entry.name}: the hub names a file outside its repository: {matches[0]!r}")
    return matches[0]


def _download_hub(entry: Entry, remote: Remote, folder: Path, mirror: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    assert entry.hub is not None
    revision = remote.revision or entry.hub["revision"]
    with _hub_errors(entry, mirror):
        path = hf_hub_download(
            entry.hub["repository"], remote.location, revision=revision, local_dir=folder, endpoint=mirror
        )
    return Path(path)


@contextlib.contextmanager
def _hub_errors(entry: Entry, mirror: str | None) -> Iterator[None]:
    """Turns the hub library's errors into ours, with what to do."""
    from huggingface_hub import errors

    repository = entry.hub["repository"] if entry.hub else ""
    try:
        yield
    except errors.GatedRepoError as error:
        raise Missing(_log_in(entry, "is gated: accept its terms on its page on the hub, then log in")) from error
    except errors.RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise Missing(_log_in(entry, "does not exist or is private; if it is yours, log in")) from error
        raise Missing(f"{entry.name}: no repository {repository} on the hub; correct the registry's entry") from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise Missing(_no_answer(entry, mirror)) from error
        raise Missing(f"{entry.name}: the hub has no {entry.place}; correct the registry's entry") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise Missing(_log_in(entry, f"may not be read (status {status}): log in")) from error
        raise Missing(f"{entry.name}: the hub answered with status {status} for {entry.place}; try again") from error
    except errors.OfflineModeIsEnabled as error:
        raise Missing(_no_answer(entry, mirror)) from error
    except errors.HFValidationError as error:
        raise BadInput(f"{entry.name}: {error}") from error
    except OSError as error:
        raise _broken(entry, error) from error
    except Exception as error:
        # The hub library's http client has changed its name between releases; its errors have no other base.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
            raise
        raise Missing(_no_answer(entry, mirror)) from error


def _log_in(entry: Entry, what: str) -> str:
    repository = entry.hub["repository"] if entry.hub else ""
    return f"{entry.name}: {repository} {what} with `hf auth login` or set HF_TOKEN, and fetch again"


def _no_answer(entry: Entry, mirror: str | None) -> str:
    where = mirror or ("the hub" if entry.hub else entry.url)
    return (
        f"{entry.name}: no answer from {where}; check the connection, name a mirror with --mirror, "
        "or use --offline to see which file goes where"
    )


def _broken(entry: Entry, error: Exception) -> LatticebenchError:
    import errno

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LatticebenchError(f"{entry.name}: the disk is full; make room and fetch again: what came is kept")
    return LatticebenchError(
        f"{entry.name}: the download of {entry.place} broke off ({str(error).splitlines()[0]}); "
        "fetch again: it goes on where it stopped"
    )


# Plain https -----------------------------------------------------------------------------------------------------


def _address(entry: Entry, mirror: str | None) -> str:
    assert entry.url is not None
    return f"{mirror.rstrip('/')}/files/{entry.name}/{entry.basename}" if mirror else entry.url


def _inspect_url(entry: Entry, mirror: str | None) -> Remote:
    address = _address(entry, mirror)
    with _open(entry, urllib.request.Request(address, method="HEAD"), mirror) as answer:
        length = answer.headers.get("Content-Length")
        return Remote(address, int(length) if length else None, None, answer.headers.get("ETag"))


def _download_url(entry: Entry, remote: Remote, folder: Path) -> Path:
    from tqdm import tqdm

    target = folder / entry.basename
    part = folder / f"{entry.basename}.part"
    tag = folder / f"{entry.basename}.part.tag"
    if part.exists() and (not tag.exists() or tag.read_text() != _tag(remote)):
        part.unlink()  # bytes of another version of the file
    tag.write_text(_tag(remote))
    with tqdm(total=remote.size, unit="B", unit_scale=True, desc=entry.name, disable=None) as bar:
        for attempt in range(ATTEMPTS):
            have = part.stat().st_size if part.exists() else 0
            if remote.size is not None and have >= remote.size:
                break
            try:
                if _continue(entry, remote.location, part, have, bar) or remote.size is None:
                    break
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                if attempt == ATTEMPTS - 1:
                    raise _broken(entry, error) from error
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        if size > remote.size:
            part.unlink()
        raise _broken(entry, OSError(f"{size} of {remote.size} bytes came"))
    part.replace(target)
    tag.unlink()
    return target


def _tag(remote: Remote) -> str:
    return f"{remote.location} {remote.size} {remote.revision}"


def _continue(entry: Entry, address: str, part: Path, have: int, bar) -> bool:
    """Appends what is left to `part`; whether the server came to the end that it had announced."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _open(entry, urllib.request.Request(address, headers=headers), None) as answer:
        if answer.status != 206:
            have = 0  # the server starts over
        bar.n = have
        try:
            with open(part, "ab" if have else "wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            raise _broken(entry, error) from error
        left = answer.headers.get("Content-Length")
        return left is not None and part.stat().st_size == have + int(left)


@contextlib.contextmanager
def _open(entry: Entry, request: urllib.request.Request, mirror: str | None) -> Iterator[http.client.HTTPResponse]:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise Missing(
                f"{entry.name}: {request.full_url} needs a log-in (status {error.code}); "
                f"download {entry.basename} by hand and fetch with --offline to see where it goes"
            ) from error
        if error.code == 404:
            raise Missing(f"{entry.name}: {request.full_url} does not exist; correct the registry's entry") from error
        raise Missing(f"{entry.name}: {request.full_url} answered with status {error.code}; try again") from error
    except urllib.error.URLError as error:
        raise Missing(_no_answer(entry, mirror)) from error
