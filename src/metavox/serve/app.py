"""The HTTP routes as one FastAPI application; BentoML mounts it and adds /healthz, /readyz and /metrics."""

from fastapi import FastAPI, Request, Response
from starlette.routing import Match

from metavox import __version__
from metavox.serve import deltas, enrolment, feedback, transcriptions
from metavox.serve.identity import Identity
from metavox.serve.problems import add_handlers, problem
from metavox.serve.upload import RequestLimits

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_app() -> FastAPI:
    """Create the application. Set `app.state.engine` before it answers requests.

    Optional: `app.state.canary` (Canary), `app.state.log` (Path), to which a line is added for each request,
    `app.state.inbox` (Path), where feedback goes.
    """
    app = FastAPI(title="metavox", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(RequestLimits)
    app.add_middleware(Identity, state=app.state)
    add_handlers(app)

    @app.get("/")
    async def index(request: Request) -> dict[str, object]:
        """List the routes."""
        paths = request.app.openapi()["paths"]
        routes = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
        own = ["GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json"]
        return {"name": "metavox", "version": __version__, "routes": sorted(routes) + own}

    app.include_router(transcriptions.router)
    app.include_router(enrolment.router)
    app.include_router(deltas.router)
    app.include_router(feedback.router)

    @app.api_route("/v1/{path:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request, path: str) -> Response:
        if allow := ", ".join(_allowed(request)):
            return problem(405, f"{request.method} is not allowed here; expected {allow}", allow=allow)
        return problem(404, f"no route {request.method} /v1/{path[:100]}; GET / lists them", code="not_found")

    return app


def _allowed(request: Request) -> list[str]:
    """The methods that exist for the path of `request`."""
    routes = request.app.routes[:-1]  # without the catch-all
    scopes = [{**request.scope, "method": method} for method in METHODS]
    return [s["method"] for s in scopes if any(r.matches(s)[0] == Match.FULL for r in routes)]
