"""A hub on loopback: the paths, headers, redirects and error codes of the real one, and its accidents on demand."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files are put as `hub.files["owner/name"]["path"] = bytes`; plain ones as `hub.plain["/path"] = bytes`.

    gated, closed: repositories that ask for a log-in, with and without the hub's code for gated ones. drops: how many
    answers with a body break off half-way. truncates: whether bodies end half-way as if they were whole. renamed: old
    repository -> new one, which the hub answers with a redirect. direct: small files come without one.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.plain: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.closed: set[str] = set()
        self.etags: dict[str, str] = {}
        self.drops = 0
        self.truncates = False
        self.direct = False
        self.renamed: dict[str, str] = {}
        self.log: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_GET(self) -> None:
                hub._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def bodies(self, part: str) -> list[str | None]:
        """The Range headers of all GET requests whose path holds `part`."""
        return [range_ for method, path, range_ in self.log if method == "GET" and part in path]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.log.append((request.command, path, request.headers.get("Range")))
        if path.startswith("/cdn/"):
            _, _, owner, name, file = path.split("/", 4)
            return self._body(request, self.files[f"{owner}/{name}"][file])
        if path in self.plain:
            return self._body(request, self.plain[path])
        if path.startswith("/moved/"):
            return self._send(request, 302, {"Location": path.removeprefix("/moved")})
        if path.startswith("/api/models/") and "/tree/" in path:
            repository, _, rest = path.removeprefix("/api/models/").partition("/tree/")
            return self._tree(request, repository, rest.partition("/")[2])
        if "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            return self._resolve(request, repository, rest.partition("/")[2])
        return self._send(request, 404, {})

    def _refuses(self, request: BaseHTTPRequestHandler, repository: str) -> bool:
        if repository in self.gated:
            self._send(request, 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif repository in self.closed or repository not in self.files:
            # The real hub tells strangers of a missing and of a private repository the same.
            self._send(request, 401, {"X-Error-Code": "RepoNotFound"})
        else:
            return False
        return True

    def _resolve(self, request: BaseHTTPRequestHandler, repository: str, file: str) -> None:
        if repository in self.renamed:
            place = request.path.replace(repository, self.renamed[repository], 1)
            return self._send(request, 307, {"Location": place})
        if self._refuses(request, repository):
            return
        if file not in self.files[repository]:
            return self._send(request, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        body = self.files[repository][file]
        etag = self.etags.get(file) or hashlib.sha256(body).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(body)),
            "ETag": f'"{etag}"',
            # The bodies lie on another host, as the real hub's do; its library treats the two differently.
            "Location": f"{self.url.replace('127.0.0.1', 'localhost')}/cdn/{repository}/{file}",
        }
        if self.direct:
            del headers["Location"]
            return self._body(request, body, headers)
        self._send(request, 302, headers)

    def _tree(self, request: BaseHTTPRequestHandler, repository: str, folder: str) -> None:
        if self._refuses(request, repository):
            return
        items = [
            {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for path, body in self.files[repository].items()
            if path.startswith(folder + "/")
        ]
        self._send(request, 200, {"Content-Type": "application/json"}, json.dumps(items).encode())

    def _body(self, request: BaseHTTPRequestHandler, body: bytes, more: dict[str, str] | None = None) -> None:
        total, start = len(body), 0
        range_ = request.headers.get("Range")
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"', "Accept-Ranges": "bytes", **(more or {})}
        status = 200
        if range_:
            start = int(range_.removeprefix("bytes=").split("-")[0])
            if start >= total:
                return self._send(request, 416, {"Content-Range": f"bytes */{total}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        rest = body[start:]
        if request.command == "GET" and self.truncates:
            rest = rest[: len(rest) // 2]
        elif request.command == "GET" and self.drops > 0:
            self.drops -= 1
            headers["Content-Length"] = str(len(rest))
            self._send(request, status, headers, rest[: len(rest) // 2], announced=True)
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(2)
            return
        self._send(request, status, headers, rest)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes = b"",
        announced: bool = False,
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if not announced:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)
