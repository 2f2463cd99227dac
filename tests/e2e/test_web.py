"""The page in a real Chromium: open, click, correct, propagate, export; keyboard; the camera; errors."""

import asyncio
import json
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError
from PIL import Image
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from maskmesh import AsyncClient, RleMask
from tests.mesh import Mesh

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Chromium runs without a network here, and as root in containers.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

WHEEL, FLOWER = (110, 262), (530, 185)


@dataclass
class Server:
    """A running ``maskmesh web``."""

    url: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def serving(*arguments: object, folder: Path) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", "web", "--port", "0", *map(str, arguments)),
        cwd=folder,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        while b"the page is at" not in (line := await asyncio.wait_for(process.stderr.readline(), 60)):
            assert line, "the page does not start"
        yield Server(line.decode().split()[-1], process)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture(scope="module")
async def server(mesh: Mesh, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("web")
    async with serving("--endpoint", mesh.endpoint, "--sample", clip, folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        await launched.close()


@pytest.fixture
async def page(browser: Browser, server: Server) -> AsyncIterator[Page]:
    # The page's own policy forbids the strings of code by which these tests wait.
    context = await browser.new_context(
        bypass_csp=True, viewport={"width": 1400, "height": 1000}, accept_downloads=True
    )
    opened = await context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))

    def note(said: ConsoleMessage) -> None:
        # The browser reports every refused request so; the page tells the user why.
        if said.type == "error" and "Failed to load resource" not in said.text:
            errors.append(said.text)

    opened.on("console", note)
    await opened.goto(server.url)
    yield opened
    await context.close()
    assert errors == []


async def says(page: Page, text: str, timeout: float = 60.0) -> None:
    await page.wait_for_function(
        "text => document.getElementById('status').textContent.includes(text)",
        arg=text,
        timeout=timeout * 1000,
    )


async def open_sample(page: Page) -> None:
    await page.click("#open-sample")
    await says(page, "Click an object")


async def click(page: Page, x: float, y: float, *, shift: bool = False) -> None:
    bounds = await page.locator("#canvas").bounding_box()
    assert bounds is not None
    scale = bounds["width"] / await page.evaluate("document.getElementById('canvas').width")
    if shift:
        await page.keyboard.down("Shift")
    await page.mouse.click(bounds["x"] + x * scale, bounds["y"] + y * scale)
    if shift:
        await page.keyboard.up("Shift")


async def colour_at(page: Page, x: int, y: int) -> list[int]:
    script = (
        f"Array.from(document.getElementById('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data)"
    )
    found: list[int] = await page.evaluate(script)
    return found


async def test_open_click_correct_propagate_and_export(page: Page, tmp_path: Path) -> None:
    await open_sample(page)
    assert await page.text_content("#model") == "micro on cpu"
    before = await colour_at(page, 90, 280)
    await click(page, *WHEEL)
    await says(page, "Object 1:")
    assert await colour_at(page, 90, 280) != before, "the mask is drawn"
    assert "Click to mask" in (await page.text_content("#click-time") or "")
    await page.click("#new-object")
    await click(page, *FLOWER)
    await says(page, "Object 2:")
    await click(page, 20, 20, shift=True)
    await says(page, "Object 2:")
    assert await page.locator("#objects li").count() == 2

    await page.click("#forward")
    await says(page, "60 frames are done")
    assert await page.input_value("#timeline") == "59"
    # A correction on a later frame, and back from there.
    await page.locator("#timeline").fill("30")
    await page.wait_for_function("document.getElementById('frame-number').textContent.startsWith('30 ')")
    await click(page, 250, 250, shift=True)
    await says(page, "Object 2:")
    await page.click("#backward")
    await says(page, "31 frames are done")
    shares = await page.locator("#share-table tr").all_text_contents()
    # The image encoder is absent where other tests have had these frames encoded: the cache answers.
    assert any("mask_decoder" in row for row in shares)
    replicas = await page.locator("#replicas tbody tr").all_text_contents()
    assert any(row.startswith("encoder") and "misses" in row for row in replicas)

    async with page.expect_download() as waiting:
        await page.click("#export")
    path = tmp_path / "masks.json"
    await (await waiting.value).save_as(path)
    content = json.loads(path.read_text())
    assert [frame["frame_index"] for frame in content["frames"]] == list(range(60))
    first = {o["obj_id"]: RleMask.from_coco(o["segmentation"]) for o in content["frames"][0]["objects"]}
    assert first[1].decode()[WHEEL[1], WHEEL[0]]
    assert first[2].decode()[FLOWER[1], FLOWER[0]]
    await page.select_option("#format", "davis")
    async with page.expect_download() as waiting:
        await page.click("#export")
    archive = tmp_path / "davis.zip"
    await (await waiting.value).save_as(archive)
    with zipfile.ZipFile(archive) as files:
        assert len(files.namelist()) == 60


async def test_keyboard_alone(page: Page) -> None:
    # The button is shown once the page knows that there is a sample.
    await page.wait_for_selector("#open-sample", state="visible")
    await page.focus("#open-sample")
    await page.keyboard.press("Enter")
    await says(page, "Click an object")
    await page.focus("#canvas")
    for _ in range(10):  # from the middle, 320, 180, to the wheel
        await page.keyboard.press("Shift+ArrowLeft")
    for _ in range(4):
        await page.keyboard.press("Shift+ArrowDown")
    await says(page, "Cross at 120, 260")
    await page.keyboard.press("Enter")
    await says(page, "Object 1:")
    label = await page.get_attribute("#canvas", "aria-label")
    assert label == "Frame 0. Objects in sight: 1."
    await page.keyboard.press(".")
    await page.wait_for_function("document.getElementById('frame-number').textContent.startsWith('1 ')")
    await page.keyboard.press("n")
    await says(page, "Object 2 is new")
    unnamed = await page.evaluate(
        """[...document.querySelectorAll('button, a, input, select, canvas[tabindex]')].filter(
        e => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))).map(e => e.id)"""
    )
    assert unnamed == []


async def test_a_box_prompts_and_an_object_is_removed(page: Page) -> None:
    await open_sample(page)
    await page.click("#tool-box")
    bounds = await page.locator("#canvas").bounding_box()
    assert bounds is not None
    scale = bounds["width"] / 640
    await page.mouse.move(bounds["x"] + 465 * scale, bounds["y"] + 120 * scale)
    await page.mouse.down()
    await page.mouse.move(bounds["x"] + 600 * scale, bounds["y"] + 250 * scale, steps=3)
    await page.mouse.up()
    await says(page, "Object 1:")
    marked = await colour_at(page, *FLOWER)
    await page.get_by_role("button", name="remove").click()
    await says(page, "Object 1 is removed")
    assert await colour_at(page, *FLOWER) != marked


async def test_clicks_of_a_frame_are_cleared(page: Page) -> None:
    await open_sample(page)
    before = await colour_at(page, *WHEEL)
    await click(page, *WHEEL)
    await says(page, "Object 1:")
    assert await colour_at(page, *WHEEL) != before
    await page.click("#clear-frame")
    await says(page, "The clicks of object 1 on this frame are removed")
    assert await colour_at(page, *WHEEL) == before
    await click(page, *WHEEL)
    await says(page, "Object 1:")


async def test_an_object_without_clicks_is_gone_from_every_frame(page: Page, tmp_path: Path) -> None:
    await open_sample(page)
    for place, number in ((WHEEL, 1), (FLOWER, 2)):
        await click(page, *place)
        await says(page, f"Object {number}:")
        await page.click("#new-object")
    await page.click("#forward")
    await says(page, "60 frames are done")
    await page.locator("#timeline").fill("0")
    await page.wait_for_function("document.getElementById('frame-number').textContent.startsWith('0 ')")
    await page.get_by_role("button", name="object 2").click()
    await page.click("#clear-frame")
    await says(page, "The clicks of object 2 on this frame are removed")
    async with page.expect_download() as waiting:
        await page.click("#export")
    path = tmp_path / "masks.json"
    await (await waiting.value).save_as(path)
    frames = json.loads(path.read_text())["frames"]
    assert len(frames) == 60
    assert {o["obj_id"] for frame in frames for o in frame["objects"]} == {1}
    await page.click("#new-object")
    await says(page, "Object 2 is new")


async def test_the_page_works_under_its_own_policy(browser: Browser, server: Server) -> None:
    """The other tests switch the policy off, because it forbids the code by which they wait."""
    context = await browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = await context.new_page()
    errors: list[str] = []
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    await opened.goto(server.url)
    await opened.locator("#open-sample").click()
    await expect(opened.locator("#status")).to_contain_text("Click an object", timeout=30_000)
    await opened.locator("#canvas").click(position={"x": 200, "y": 200})
    await expect(opened.locator("#status")).to_contain_text("Object 1:", timeout=30_000)
    await opened.locator("#camera").click()
    await expect(opened.locator("#rate")).to_contain_text("behind", timeout=30_000)
    await context.close()
    assert errors == []


async def test_a_propagation_is_stopped(page: Page) -> None:
    await open_sample(page)
    await click(page, *WHEEL)
    await says(page, "Object 1:")
    await page.click("#forward")
    await page.wait_for_function("Number(document.getElementById('timeline').value) > 1")
    await page.click("#stop")
    await says(page, "Stopped after")
    await click(page, *WHEEL)
    await says(page, "Object 1:")


async def test_a_picture_and_a_file_that_is_none(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (120, 80), (200, 30, 30)).save(tmp_path / "red.png")
    (tmp_path / "notes.mp4").write_text("no video")
    await page.set_input_files("#file", tmp_path / "red.png")
    await says(page, "red.png: 1 frame of 120 by 80 pixels")
    assert not await page.is_visible("#playback")
    async with page.expect_response("**/api/sources?*") as waiting:
        await page.set_input_files("#file", tmp_path / "notes.mp4")
    assert (await waiting.value).status == 400
    await page.wait_for_selector("#status.error")
    # The picture stays open.
    await click(page, 60, 40)
    await says(page, "Object 1:")


async def test_the_camera_is_tracked_live(page: Page) -> None:
    await page.click("#camera")
    await says(page, "The camera is on")
    await page.wait_for_function("document.getElementById('rate').textContent.includes('behind')")
    await click(page, 300, 240)
    await page.wait_for_function("document.querySelectorAll('#objects li').length == 1")
    await page.wait_for_function("document.querySelector('#objects').textContent.includes('remove')")
    await page.click("#camera")
    await says(page, "The camera is off")


async def test_the_waterfall_of_a_click_is_shown(
    browser: Browser, mesh: Mesh, clip: Path, tmp_path: Path
) -> None:
    """With a mesh of its own, the page reads its trace files."""
    async with serving("--sample", clip, folder=tmp_path) as own:
        opened = await browser.new_page(bypass_csp=True)
        await opened.goto(own.url)
        await open_sample(opened)
        await click(opened, *WHEEL)
        await opened.wait_for_function(
            "[...document.querySelectorAll('#waterfall text')].some(t => t.textContent == 'mask_decoder')"
        )
        await opened.close()


async def test_requests_of_other_pages_are_refused(server: Server, client: AsyncClient) -> None:
    async with ClientSession() as http:
        async with http.get(server.url + "api/mesh", headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403
        async with http.get(server.url + "api/mesh", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        foreign = {"Origin": "http://evil.example"}
        async with http.post(server.url + "api/sample", headers=foreign) as answer:
            assert answer.status == 403
        with pytest.raises(WSServerHandshakeError):
            await http.ws_connect(server.url + "api/live", headers=foreign)
        async with http.get(server.url) as answer:
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        async with http.post(server.url + "api/sources/none/prompt", json={"frame_index": 0}) as answer:
            assert answer.status == 404
        async with http.get(server.url + "api/sources/none/frames/0") as answer:
            assert answer.status == 404
        async with http.post(server.url + "api/sample") as answer:
            source = (await answer.json())["id"]
        for body, said in (
            ({"frame_index": "x", "obj_id": 1}, "frame_index must be an integer"),
            ({"frame_index": 0, "obj_id": 1, "points": [[1]]}, "points are [x, y, positive]"),
            ({"frame_index": 0, "obj_id": 1}, "prompt"),
            ({"frame_index": 99, "obj_id": 1, "points": [[1, 1, True]]}, "frame"),
        ):
            async with http.post(f"{server.url}api/sources/{source}/prompt", json=body) as answer:
                assert answer.status == 400
                assert said in (await answer.json())["message"]
        async with http.ws_connect(server.url + "api/live") as socket:
            assert (await socket.receive_json())["type"] == "started"
            await socket.send_str('{"type": "nonsense"}')
            message = await socket.receive()
            assert message.type is WSMsgType.TEXT
            assert "nonsense" in message.data
        async with http.delete(f"{server.url}api/sources/{source}") as answer:
            assert answer.status == 200
