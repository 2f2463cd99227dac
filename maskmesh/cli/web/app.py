"""The server of the page: files, sessions, masks, latencies.  It serves one person, on this machine."""

import asyncio
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from maskmesh.cli.export.command import FILE_FORMATS, FOLDER_FORMATS
from maskmesh.cli.web.json_forms import frame_json, mesh_json, model_json
from maskmesh.cli.web.live_bridge import live
from maskmesh.cli.web.opened_source import OpenedSource, new_folder
from maskmesh.cli.web.requests import RequestError, box_of, integer_of, points_of
from maskmesh.cli.web.traces import LocalTraces
from maskmesh.client.async_client import AsyncClient
from maskmesh.errors import InvalidRequest, MaskmeshError, NotFound

CHUNK_BYTES = 2**20

# Sources that are open at once, as in several tabs; the oldest one is closed.
MAX_SOURCES = 4

_STATIC = Path(str(files("maskmesh.cli.web") / "static"))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The page runs its own scripts only, and is not shown in others.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class WebApp:
    """The application.  Its requests must come from its own page."""

    def __init__(
        self, client: AsyncClient, *, hosts: tuple[str, ...], traces: Path | None, sample: Path | None
    ) -> None:
        """``hosts`` are the names by which the page may be reached; ``traces`` is the folder of trace files
        of a mesh on this machine; ``sample`` is a clip that the page offers.
        """
        self._client = client
        self._hosts = hosts
        self._traces = None if traces is None else LocalTraces(traces)
        self._sample = sample
        self._sources: dict[str, OpenedSource] = {}

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._guard], client_max_size=2**40)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/api/mesh", self._mesh),
                web.get("/api/live", self._live),
                web.get("/api/traces/{trace_id}", self._trace),
                web.post("/api/sources", self._open),
                web.post("/api/sample", self._open_sample),
                web.get("/api/sources/{id}/frames/{frame}", self._frame),
                web.get("/api/sources/{id}/results", self._results),
                web.post("/api/sources/{id}/prompt", self._prompt),
                web.post("/api/sources/{id}/clear", self._clear),
                web.post("/api/sources/{id}/concept", self._concept),
                web.post("/api/sources/{id}/remove", self._remove),
                web.post("/api/sources/{id}/propagate", self._propagate),
                web.get("/api/sources/{id}/export/{format}", self._export),
                web.delete("/api/sources/{id}", self._close),
                web.static("/static", _STATIC),
            ]
        )
        app.on_shutdown.append(self._close_all)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what other pages send, and turn errors into JSON."""
        host = request.host.rpartition(":")[0] if ":" in request.host else request.host
        host = host.strip("[]").lower()
        origin = request.headers.get("Origin")
        if host not in self._hosts or (origin and origin.split("://")[-1] != request.host):
            return web.json_response({"message": "requests come from this page only"}, status=403)
        try:
            response = await handler(request)
        except (RequestError, InvalidRequest, json.JSONDecodeError) as error:
            return web.json_response({"message": str(error)}, status=400)
        except (NotFound, IndexError) as error:
            return web.json_response({"message": str(error)}, status=404)
        except (MaskmeshError, OSError, ValueError) as error:
            return web.json_response({"message": str(error)}, status=500)
        except grpc.RpcError:
            return web.json_response({"message": "the gateway does not answer"}, status=502)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        text = (_STATIC / "index.html").read_text(encoding="utf-8")
        return web.Response(text=text, content_type="text/html")

    async def _mesh(self, request: web.Request) -> web.StreamResponse:
        content = mesh_json(await self._client.mesh())
        return web.json_response(content | {"has_sample": self._sample is not None})

    async def _live(self, request: web.Request) -> web.StreamResponse:
        return await live(request, self._client)

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        """The spans of a trace that are there; ``local`` is false if they are on another machine."""
        if self._traces is None:
            return web.json_response({"spans": [], "local": False})
        spans = await asyncio.to_thread(self._traces.find, request.match_info["trace_id"])
        return web.json_response({"spans": spans, "local": True})

    async def _open(self, request: web.Request) -> web.StreamResponse:
        name = Path(request.query.get("name", "clip")).name or "clip"
        folder = new_folder()
        try:
            path = folder / f"source{Path(name).suffix}"
            with path.open("wb") as file:
                async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)
            return await self._opened(name, folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _open_sample(self, request: web.Request) -> web.StreamResponse:
        if self._sample is None:
            raise RequestError("there is no sample")
        folder = new_folder()
        path = folder / self._sample.name
        try:
            await asyncio.to_thread(shutil.copyfile, self._sample, path)
            return await self._opened(self._sample.name, folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _opened(self, name: str, folder: Path, path: Path) -> web.StreamResponse:
        session = await self._client.create_session()
        source = OpenedSource(name, folder, path, session)
        try:
            await source.load()
        except BaseException:
            await source.close()
            raise
        self._sources[session.session_id] = source
        while len(self._sources) > MAX_SOURCES:
            await self._sources.pop(next(iter(self._sources))).close()
        return web.json_response(
            {
                "id": session.session_id,
                "name": name,
                "num_frames": session.num_frames,
                "width": session.width,
                "height": session.height,
                "frames_per_second": session.frames_per_second,
                "model": model_json(session.model),
            }
        )

    def _source(self, request: web.Request) -> OpenedSource:
        source = self._sources.get(request.match_info["id"])
        if source is None:
            raise IndexError("the source is not open any more")
        return source

    async def _frame(self, request: web.Request) -> web.StreamResponse:
        try:
            index = int(request.match_info["frame"])
        except ValueError as error:
            raise RequestError("a frame is a number") from error
        return web.Response(body=await self._source(request).jpeg(index), content_type="image/jpeg")

    async def _results(self, request: web.Request) -> web.StreamResponse:
        results = self._source(request).results
        return web.json_response({"frames": [frame_json(frame) for _, frame in sorted(results.items())]})

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        found = await self._source(request).prompt(
            integer_of(body, "frame_index"),
            integer_of(body, "obj_id"),
            points_of(body),
            box_of(body),
            clear_previous=bool(body.get("clear_previous")),
        )
        return web.json_response(frame_json(found))

    async def _clear(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        frame, obj_ids = await self._source(request).clear(
            integer_of(body, "frame_index"), integer_of(body, "obj_id")
        )
        return web.json_response(
            {"frame": None if frame is None else frame_json(frame), "obj_ids": list(obj_ids)}
        )

    async def _concept(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        phrase = str(body.get("phrase", "")).strip()
        if not phrase:
            raise RequestError("phrase must not be empty")
        found = await self._source(request).add_concept(
            integer_of(body, "concept_id"), phrase, integer_of(body, "frame_index")
        )
        return web.json_response({"frame": None if found is None else frame_json(found)})

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        await self._source(request).remove_object(integer_of(await _body(request), "obj_id"))
        return web.json_response({})

    async def _propagate(self, request: web.Request) -> web.StreamResponse:
        """One line of JSON for each frame; the page stops it by leaving."""
        body = await _body(request)
        frames = self._source(request).propagate(
            integer_of(body, "frame_index"), reverse=bool(body.get("reverse"))
        )
        response = web.StreamResponse(headers=_HEADERS | {"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            async for frame in frames:
                await response.write((json.dumps(frame_json(frame)) + "\n").encode())
        except (MaskmeshError, grpc.RpcError) as error:
            message = str(error) if isinstance(error, MaskmeshError) else "the gateway does not answer"
            await response.write((json.dumps({"error": message}) + "\n").encode())
        finally:
            await frames.aclose()  # type: ignore[attr-defined]
        await response.write_eof()
        return response

    async def _export(self, request: web.Request) -> web.StreamResponse:
        source, name = self._source(request), request.match_info["format"]
        stem = Path(source.name).stem
        if name == "masks":
            body, file_name = json.dumps(source.masks()).encode(), f"{stem}.masks.json"
        elif name in FILE_FORMATS:
            suffix = ".xml" if name == "cvat" else ".json"
            file_name = f"{stem}.{name}{suffix}"
            body = await asyncio.to_thread(_exported_file, source, name)
        elif name in FOLDER_FORMATS:
            file_name = f"{stem}.{name}.zip"
            body = await asyncio.to_thread(_exported_folder, source, name)
        else:
            raise RequestError(f"there is no format {name!r}")
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in file_name)
        headers = {"Content-Disposition": f'attachment; filename="{safe}"'}
        return web.Response(body=body, headers=headers, content_type="application/octet-stream")

    async def _close(self, request: web.Request) -> web.StreamResponse:
        source = self._sources.pop(request.match_info["id"], None)
        if source is not None:
            await source.close()
        return web.json_response({})

    async def _close_all(self, app: web.Application) -> None:
        while self._sources:
            await self._sources.pop(next(iter(self._sources))).close()


# How far the lines of exported polygons may lie from the masks, in pixels.
_TOLERANCE = 1.0


def _exported_file(source: OpenedSource, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export"
        FILE_FORMATS[name](source.document(), path, _TOLERANCE)
        return path.read_bytes()


def _exported_folder(source: OpenedSource, name: str) -> bytes:
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w") as archive:
        FOLDER_FORMATS[name](source.document(), Path(folder), _TOLERANCE)
        for path in sorted(Path(folder).rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


async def _body(request: web.Request) -> dict[str, Any]:
    content = await request.json()
    if not isinstance(content, dict):
        raise RequestError("the body must be a JSON object")
    return content
