"""The page of `gaprun watch` over HTTP, for this machine alone: the page, its scripts, and what is new as JSON.

It listens on 127.0.0.1, answers only requests that name a loopback host (a page of another site, whose name was made to
point here, does not), reads and never writes, and loads nothing from elsewhere.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from markupsafe import Markup

from gaprun.errors import GaprunError, UserError
from gaprun.palette import COLOURS, DARK
from gaprun.report.figure import Axis, Figure, Panel
from gaprun.report.files import asset, drawn, filled
from gaprun.report.live import Live

HOST = "127.0.0.1"
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}  # the last two: as a tunnel may be called
SCRIPT, STYLE, PAGE, DATA = (
    f"{kind}; charset=utf-8" for kind in ("text/javascript", "text/css", "text/html", "application/json")
)
ASSETS = {"/figures.js": SCRIPT, "/watch.js": SCRIPT, "/page.css": STYLE, "/watch.css": STYLE}
RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)  # plotly.js sets styles
MOST_RUNS = 1000  # that a page may say it has


class LivePage(ThreadingHTTPServer):
    """The server; `serve_forever` runs it, Ctrl-C ends that."""

    daemon_threads = True

    def __init__(self, live: Live, port: int = 0) -> None:
        """Listen on `port` (0: a free one). Raises UserError where it is taken or may not be used."""
        self.live = live
        try:
            super().__init__((HOST, port), PageRequest)
        except OSError as error:
            raise UserError(
                f"--port {port}: {error.strerror}; name another one, or none to take one that is free"
            ) from None

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of this machine, as the parent would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed is no error; anything else is one line."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"gaprun watch: {type(error).__name__}: {error}", file=sys.stderr)


class PageRequest(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: LivePage
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gaprun", ""
    timeout = 60  # seconds that a connection may say nothing

    def do_GET(self) -> None:
        """Answer one request."""
        place = urlsplit(self.path)
        if not is_loopback(self.headers.get_all("Host") or []):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"This page is for this machine alone.\n")
        elif place.path == "/new":
            self._send(*self._new(place.query))
        elif place.path == "/":
            self._send(HTTPStatus.OK, PAGE, page(self.server.live.name).encode())
        elif place.path == "/plotly.js":
            self._send(HTTPStatus.OK, SCRIPT, plotly(), keep=True)
        elif place.path in ASSETS:
            self._send(HTTPStatus.OK, ASSETS[place.path], asset(place.path[1:]).encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")

    do_HEAD = do_GET

    def _new(self, query: str) -> tuple[HTTPStatus, str, bytes]:
        """What the page lacks; where the database cannot be read one line that says why."""
        try:
            found = self.server.live.look(dict(parse_qsl(query, max_num_fields=MOST_RUNS)))
        except GaprunError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, DATA, json.dumps({"error": str(error)}).encode()
        except ValueError:
            return HTTPStatus.BAD_REQUEST, DATA, json.dumps({"error": "too many runs"}).encode()
        return HTTPStatus.OK, DATA, json.dumps(found, separators=(",", ":"), allow_nan=False).encode()

    def _send(self, status: HTTPStatus, kind: str, content: bytes, keep: bool = False) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "max-age=86400" if keep else "no-store"),
            ("Content-Security-Policy", RULES),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line every two seconds helps nobody."""


def is_loopback(hosts: list[str]) -> bool:
    """Whether a request's Host headers (there must be one) name this machine, at whatever port."""
    if len(hosts) != 1:
        return False
    name, colon, port = hosts[0].lower().rpartition(":")
    if colon and port.isdecimal():
        return name in LOOPBACK
    return hosts[0].lower() in LOOPBACK


def page(database: str) -> str:
    """The page itself, without a number in it."""
    x = Axis("training step + 1", log=True)
    panels = [Panel("", x, Axis(""), [])]
    curves = Figure("live", "Curves so far", "", panels, columns=3, least=300, height=230, switches=("x",))
    return filled(
        "watch.html",
        database=database,
        curves=drawn(curves),
        dark=Markup(json.dumps(DARK)),
        colours=Markup(json.dumps(COLOURS)),
    )


@lru_cache(maxsize=1)
def plotly() -> bytes:
    """plotly.js, as the report carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()
