"""The pages as a FastAPI app: addresses, states and headers. What a page shows is collected by its own module.

Everything is read-only and every route is guarded, the stylesheet too. Ids are checked before they are used, and only
ids that the published file knows ever name a folder.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import OpportunitySyncError, ReleaseError
from opportunity_sync.pages import render, style
from opportunity_sync.pages.backlog import backlogs
from opportunity_sync.pages.health import verdict
from opportunity_sync.pages.live import Live, LiveFile
from opportunity_sync.pages.opportunities import as_id, opportunity_facts, search
from opportunity_sync.pages.overview import newer_on_disk, overview
from opportunity_sync.pages.quality import IDENTITY, expectation_facts, quality
from opportunity_sync.pages.releases import list_releases, release_facts
from opportunity_sync.pages.validation import newest_refused, read_report
from opportunity_sync.release import MAIN_TABLES
from opportunity_sync.settings import Settings, load_settings

MOUNT = "/opportunity-sync"
"""Where Airflow mounts the app."""
LONGEST_SEARCH = 200

HEADERS = {
    "Cache-Control": "no-store",
    # No `form-action`: a search may be redirected to the login page of another host when the session has ended.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]

log = logging.getLogger("opportunity_sync.pages")


def create_app(
    guard: Callable[..., Any],
    dag_of_run: Callable[[str, datetime], str | None],
    *,
    settings: Callable[[], Settings] = load_settings,
) -> FastAPI:
    """Make the app.

    Args:
        guard: FastAPI dependency of every route; raises 401 or 403.
        dag_of_run: which DAG a run belongs to, for the link to it.
        settings: read for every request, so that a wrong one is shown on the page instead of stopping Airflow.
    """
    app = FastAPI(
        title="Opportunity sync", dependencies=[Depends(guard)], docs_url=None, redoc_url=None, openapi_url=None
    )
    pages = _Pages(dag_of_run, settings)
    routes: dict[str, Callable[..., Response]] = {
        "/": pages.overview,
        "/style.css": pages.style,
        "/icon.svg": pages.icon,
        "/releases": pages.releases,
        "/releases/{release_id}": pages.release,
        "/opportunities": pages.opportunities,
        "/opportunities/{opportunity_id}": pages.opportunity,
        "/quality": pages.quality,
        "/quality/expectation": pages.expectation,
        "/{rest:path}": pages.nothing,
    }
    for path, page in routes.items():
        app.add_api_route(path, page, methods=["GET"], response_class=HTMLResponse)
    app.add_exception_handler(StarletteHTTPException, pages.refuse)
    app.add_exception_handler(RequestValidationError, pages.refuse)

    @app.middleware("http")
    async def answer(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await call_next(request)
        except Exception:
            log.exception("pages: %s failed", request.url.path)
            response = pages.message(
                request, "This page could not be made", "The log of the API server says why; the data is unharmed.", 500
            )
        response.headers.update(HEADERS)
        return response

    return app


class _Pages:
    """The routes; they share the open live file."""

    def __init__(self, dag_of_run: Callable[[str, datetime], str | None], settings: Callable[[], Settings]) -> None:
        self._dag_of_run, self._settings, self._file = dag_of_run, settings, LiveFile()

    def overview(self, request: Request) -> Response:
        """Is it healthy, what is live, and what changed last."""
        settings, now = self._settings(), datetime.now(UTC)
        root, max_age = DataRoot(settings.data), timedelta(hours=settings.freshness_hours)
        try:
            with self._file.reading(root) as live:
                refused = newest_refused(root, live.release_id if live else None)
                found = overview(live, now) if live else None
                answer = verdict(
                    found.state if found else None, refused.candidate if refused else None, max_age=max_age
                )
                return self._page(
                    request,
                    "overview.html",
                    here="",
                    verdict=answer,
                    live=live,
                    found=found,
                    refused=refused,
                    max_age=max_age,
                    newer=newer_on_disk(live) if live else None,
                    backlogs=backlogs(live) if live else [],
                    run=self._run(request, live.run_id, live.released_at) if live else None,
                )
        except ReleaseError as error:
            log.warning("pages: %s", error)
            answer = verdict(None, None, max_age=max_age, problem=f"{error.what}. {error.action}.")
            return self._page(
                request,
                "overview.html",
                here="",
                verdict=answer,
                live=None,
                found=None,
                refused=None,
                backlogs=[],
                status_code=503,
            )

    def releases(self, request: Request, page: PageNumber = 1) -> Response:
        """All releases since the history began."""

        def show(live: Live) -> Response:
            found, pages = list_releases(live, page)
            return self._page(
                request, "releases.html", here="releases", live=live, releases=found, page=page, pages=pages
            )

        return self._read(request, show)

    def release(self, request: Request, release_id: str, table: str = "", page: PageNumber = 1) -> Response:
        """One release."""
        if table and table not in MAIN_TABLES:
            return self.message(request, "There is no such table", "Choose one of those on the page of a release.", 404)

        def show(live: Live) -> Response:
            found = release_facts(live, release_id, table=table or None, page=page)
            if found is None:
                return self.message(
                    request, "There is no such release", "Releases since the history began are listed.", 404
                )
            known_id = found.release["release_id"]
            return self._page(
                request,
                "release.html",
                here="releases",
                live=live,
                found=found,
                report=read_report(live.root.releases / known_id),
                tables=list(MAIN_TABLES),
                run=self._run(request, found.release["run_id"], found.release["released_at"].replace(tzinfo=UTC)),
            )

        return self._read(request, show)

    def opportunities(self, request: Request, q: str = "") -> Response:
        """Search by name or id."""
        text = q.strip()[:LONGEST_SEARCH]
        return self._read(
            request,
            lambda live: self._page(
                request, "opportunities.html", here="opportunities", live=live, text=text, found=search(live, text)
            ),
        )

    def opportunity(self, request: Request, opportunity_id: str) -> Response:
        """One opportunity, why it is what it is, and what became of it."""
        key = as_id(opportunity_id)

        def show(live: Live) -> Response:
            found = opportunity_facts(live, key) if key else None
            if found is None:
                return self.message(
                    request,
                    "There is no such opportunity",
                    "No release since the history began has one with this id: look it up in Dynamics. It may be "
                    "deleted, excluded by the sync filter, or not readable for the sync.",
                    404,
                )
            return self._page(request, "opportunity.html", here="opportunities", live=live, found=found)

        return self._read(request, show)

    def quality(self, request: Request) -> Response:
        """Every expectation over the last releases."""

        def show(live: Live) -> Response:
            refused = newest_refused(live.root, live.release_id)
            return self._page(
                request,
                "quality.html",
                here="quality",
                live=live,
                found=quality(live),
                refused=refused,
                link=_expectation_link,
            )

        return self._read(request, show)

    def expectation(
        self, request: Request, suite: str = "", relation: str = "", expectation: str = "", column_name: str = ""
    ) -> Response:
        """One expectation over many releases."""
        identity = dict(zip(IDENTITY, (suite, relation, expectation, column_name or None), strict=True))

        def show(live: Live) -> Response:
            found = expectation_facts(live, identity, newest_refused(live.root, live.release_id))
            if found is None:
                return self.message(
                    request, "There is no such expectation", "No recent release evaluated it; see page Quality.", 404
                )
            return self._page(request, "expectation.html", here="quality", live=live, found=found)

        return self._read(request, show)

    def style(self) -> Response:
        """The stylesheet."""
        return Response(style(self._settings()), media_type="text/css")

    def icon(self) -> Response:
        """The icon in Airflow's navigation and in the browser's tab."""
        return Response((self._settings().include / "pages" / "icon.svg").read_bytes(), media_type="image/svg+xml")

    def nothing(self, request: Request, rest: str) -> Response:
        """Any other address: guarded as well, so that nothing can be learned without a session."""
        return self.message(request, "There is no such page", "The pages are listed at the top.", 404)

    def message(self, request: Request, heading: str, text: str, status_code: int) -> Response:
        """A page that only says something."""
        return self._page(
            request, "message.html", here=None, heading=heading, text=text, status_code=status_code, live=None
        )

    async def refuse(self, request: Request, error: Exception) -> Response:
        """No session: to Airflow's login and back, or 401 for a program. No right, or a wrong parameter: say so."""
        if not isinstance(error, StarletteHTTPException):
            return self.message(request, "There is no such page", "Something in the address is wrong.", 404)
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        if error.status_code == 401:
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{_airflow(request)}/api/v2/auth/login?next={quote(wanted, safe='')}", 302)
        if error.status_code == 403:
            text = "To see these pages you need the right to read the DAG opportunity_sync. Ask who runs this Airflow."
            return self.message(request, "You may not see this page", text, 403)
        return self.message(request, "This does not work here", str(error.detail), error.status_code)

    def _read(self, request: Request, show: Callable[[Live], Response]) -> Response:
        """Show a page about the live release, or why there is none to show."""
        try:
            with self._file.reading(DataRoot(self._settings().data)) as live:
                if live is None:
                    text = "It appears with the first successful run of the DAG opportunity_sync."
                    return self.message(request, "No release yet", text, 200)
                return show(live)
        except ReleaseError as error:
            log.warning("pages: %s", error)
            return self.message(request, "The live release cannot be read", f"{error.what}. {error.action}.", 503)

    def _page(self, request: Request, template: str, *, status_code: int = 200, **facts: Any) -> Response:
        try:
            settings = self._settings()
        except OpportunitySyncError as error:
            return PlainTextResponse(str(error), 500)
        text = render(
            settings,
            template,
            root=request.scope["root_path"],
            airflow=_airflow(request),
            now=datetime.now(UTC),
            is_id=lambda value: as_id(str(value)) is not None,
            **facts,
        )
        return HTMLResponse(text, status_code)

    def _run(self, request: Request, run_id: str, at: datetime) -> str | None:
        """Address of Airflow's page of a run."""
        dag_id = self._dag_of_run(run_id, at)
        return f"{_airflow(request)}/dags/{dag_id}/runs/{quote(run_id, safe='')}" if dag_id else None


def _airflow(request: Request) -> str:
    """The path under which Airflow's own UI is served: empty, or a prefix."""
    return str(request.scope["root_path"]).removesuffix(MOUNT)


def _expectation_link(identity: dict[str, str | None]) -> str:
    return "quality/expectation?" + urlencode({name: value for name, value in identity.items() if value})
