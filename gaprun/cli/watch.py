"""`gaprun watch`: a page on this machine that follows running jobs."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from gaprun.cli.options import DbOption


def register(app: typer.Typer) -> None:
    """Add `watch` to `app`."""
    app.command(epilog="Example: gaprun watch --db results.db.example --port 8000")(watch)


def watch(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the page is served.", show_default="a free one")
    ] = 0,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    db: DbOption = None,
) -> None:
    """Follow running jobs in a browser: progress, curves, failures, first results; until Ctrl-C.

    The page is for this machine alone (127.0.0.1), needs no network, and only reads the database.
    """
    from gaprun.report.live import Live
    from gaprun.report.serve import LivePage
    from gaprun.store import open_store

    store = open_store(db, create=False, write=False)
    with LivePage(Live(store), port) as page, suppress(KeyboardInterrupt):
        print(f"{page.address} shows {store.place.name}; Ctrl-C ends it", flush=True)
        if open:
            import webbrowser

            webbrowser.open(page.address)
        page.serve_forever()
