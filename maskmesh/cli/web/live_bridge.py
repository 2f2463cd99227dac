"""The camera of a browser: its pictures go to a live stream, the masks come back."""

import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

from maskmesh.cli.web.json_forms import live_json, model_json
from maskmesh.cli.web.requests import RequestError, box_of, integer_of, points_of
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.live.live_stream import LiveStream
from maskmesh.errors import MaskmeshError
from maskmesh.records.budget import Budget

# The budget that the page shows.
FRAMES_PER_SECOND = 15.0

MAX_PICTURE_BYTES = 16 * 2**20


async def live(request: web.Request, client: AsyncClient) -> web.WebSocketResponse:
    """Binary messages are pictures; text messages are commands; answers are JSON."""
    socket = web.WebSocketResponse(max_msg_size=MAX_PICTURE_BYTES)
    await socket.prepare(request)
    gate = 0.0 if request.query.get("motion_gate") else None
    budget = Budget(frames_per_second=FRAMES_PER_SECOND)
    try:
        async with client.stream(overload="skip", budget=budget, motion_gate=gate) as stream:
            assert stream.model is not None, "an open stream has a model"
            await socket.send_json({"type": "started", "model": model_json(stream.model)})
            results = asyncio.ensure_future(_send_results(socket, stream))
            receiving = asyncio.ensure_future(_receive(socket, stream))
            try:
                # The stream may fail while no message comes.
                done, _ = await asyncio.wait({results, receiving}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if receiving in done:
                    await stream.finish()
                    await results
            finally:
                for task in (results, receiving):
                    task.cancel()
                await asyncio.gather(results, receiving, return_exceptions=True)
    except MaskmeshError as error:
        if not socket.closed:
            await socket.send_json({"type": "error", "message": str(error)})
    await socket.close()
    return socket


async def _send_results(socket: web.WebSocketResponse, stream: LiveStream) -> None:
    async for result in stream:
        if socket.closed:
            return
        try:
            await socket.send_json(live_json(result))
        except ConnectionResetError:
            return  # the tab was closed meanwhile


async def _receive(socket: web.WebSocketResponse, stream: LiveStream) -> None:
    prompting: set[asyncio.Task[None]] = set()
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await stream.send(message.data)
        elif message.type is WSMsgType.TEXT:
            # Answers of prompts come while pictures go on.
            task = asyncio.ensure_future(_carry_out(socket, stream, message.data))
            prompting.add(task)
            task.add_done_callback(prompting.discard)
        if message.type is WSMsgType.ERROR:
            break
    for task in prompting:
        task.cancel()


async def _carry_out(socket: web.WebSocketResponse, stream: LiveStream, text: str) -> None:
    try:
        command: dict[str, Any] = json.loads(text)
        match command.get("type"):
            case "prompt":
                await stream.add_prompt(
                    integer_of(command, "obj_id"),
                    points=points_of(command),
                    box=box_of(command),
                    sequence=integer_of(command, "sequence"),
                )
            case "remove":
                await stream.remove_object(integer_of(command, "obj_id"))
            case "concept":
                await stream.add_concept(integer_of(command, "concept_id"), str(command.get("phrase", "")))
            case other:
                raise RequestError(f"there is no command {other!r}")
    except (MaskmeshError, RequestError, ValueError) as error:
        if not socket.closed:
            await socket.send_json({"type": "rejected", "message": str(error)})
