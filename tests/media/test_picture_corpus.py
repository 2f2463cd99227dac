"""Odd pictures: upright RGB by one rule, and refusals that name the kind."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmesh import ImageTooLarge, InvalidImage, InvalidVideo
from maskmesh.media.file_kind import FileKind, file_kind
from maskmesh.media.pictures import NO_LIMIT, PixelLimit, as_image, decode_picture, is_picture, picture_size
from maskmesh.media.video_index import index_video
from maskmesh.types import RawImage
from tests.corpus import pictures
from tests.corpus.pictures import PICTURES, PictureCase, disc, picture, saved
from tests.corpus.video_files import write
from tests.golden import DATA, needs_data


def place_of_disc(pixels: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(pixels[..., 0] > 130)
    return round(float(columns.mean())), round(float(rows.mean()))


@pytest.mark.parametrize("case", PICTURES, ids=str)
def test_pictures_become_upright_rgb(case: PictureCase) -> None:
    data = case.make()
    assert picture_size(data, NO_LIMIT, field="image") == case.size
    pixels = decode_picture(data, NO_LIMIT, field="image")
    assert pixels.shape == (case.size[1], case.size[0], 3)
    assert pixels.dtype == np.uint8
    assert place_of_disc(pixels) == case.place


def test_pillow_images_are_taken_by_the_same_rule() -> None:
    turned = Image.open(io.BytesIO(pictures.turned(6, "JPEG")))
    image = as_image(turned)
    assert isinstance(image, RawImage)
    assert place_of_disc(image.pixels) == pictures.PLACES[6][0]
    grey = as_image(Image.open(io.BytesIO(pictures.grey_16())))
    assert isinstance(grey, RawImage)
    assert place_of_disc(grey.pixels) == (pictures.X, pictures.Y)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
REFUSALS = {
    "HEIC is not taken as an image: convert": lambda: HEIC,
    "animated PNG is not taken": lambda: saved(
        Image.fromarray(disc()), "PNG", save_all=True, append_images=[Image.new("RGB", (120, 80))]
    ),
    "animated WebP is not taken": lambda: saved(
        Image.fromarray(disc()), "WEBP", save_all=True, append_images=[Image.new("RGB", (120, 80))]
    ),
    "GIF is not taken as an image: send it as a video": lambda: picture("P", "GIF"),
    "JPEG 2000 is not taken": lambda: picture(form="JPEG2000"),
    "PDF is not taken": lambda: b"%PDF-1.7\n" + bytes(99),
    "SVG is not taken": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "Photoshop is not taken": lambda: b"8BPS\0\1" + bytes(99),
    "not an image of a kind that is taken": lambda: b"plain text",
    "floating-point pixels": lambda: saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
    "pixels of 32 bits": lambda: saved(Image.fromarray(np.full((8, 8), 2**20, np.int32)), "TIFF"),
    "cannot be decoded": lambda: picture(form="JPEG")[:200],
    "image cannot be decoded": lambda: picture()[:60],
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals_name_the_kind(message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        decode_picture(REFUSALS[message](), NO_LIMIT, field="frame.image")
    assert caught.value.field == "frame.image"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_one_limit_for_all_kinds(form: str) -> None:
    limit = PixelLimit(9599, "MASKMESH_ENCODER_MAX_PIXELS")
    with pytest.raises(ImageTooLarge, match=r"120 x 80 pixels are more than 9599 .*MAX_PIXELS"):
        decode_picture(picture(form=form), limit, field="image")


STILLS = {
    "photo.webp": lambda: picture(form="JPEG"),
    "photo.mp4": picture,
    "photo.jpg": lambda: picture(form="WEBP"),
    "photo.heic": lambda: HEIC,
    "photo": lambda: picture(form="AVIF"),
}


@pytest.mark.parametrize("name", STILLS)
def test_content_and_not_the_name_tells_a_still(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(STILLS[name]())
    assert is_picture(path)
    with pytest.raises(InvalidVideo):
        index_video(path)


def test_gif_is_a_video_also_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(picture("P", "GIF"))
    assert not is_picture(path)
    assert index_video(path).num_frames == 1


def test_videos_are_told_by_their_content(tmp_path: Path) -> None:
    for name in ("clip.jpg", "clip.png", "clip"):
        path = write(tmp_path / "clip.mp4", range(3)).rename(tmp_path / name)
        assert not is_picture(path)
        assert index_video(path).num_frames == 3


def test_playlists_and_covers_are_named(tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nx.ts\n")
    with pytest.raises(InvalidVideo, match="the file is a playlist: send the video that it names"):
        index_video(playlist)
    assert file_kind(b"ffconcat version 1.0\n") is FileKind.PLAYLIST


# File of the shared data: where the disc is displayed.
SHARED_FILES = {
    "p.webp": (1700, 1200),
    "grid.avif": (1700, 1200),
    "jpeg-named.webp": (1700, 1200),
    "rational-negative-denominator.jpg": (219, 100),
    "float-nan.jpg": (219, 100),
    "icc2m.png": (100, 80),
    "ztxt.png": (100, 80),
    "bad-text-crc.png": (100, 80),
    "grey16.png": (100, 80),
}


@needs_data
@pytest.mark.parametrize("name", SHARED_FILES)
def test_pictures_of_other_programs(name: str) -> None:
    pixels = decode_picture((DATA / "faults" / name).read_bytes(), NO_LIMIT, field="image")
    assert place_of_disc(pixels) == SHARED_FILES[name]


@needs_data
def test_files_without_a_video_are_named() -> None:
    with pytest.raises(InvalidVideo, match="the file has no video"):
        index_video(DATA / "faults" / "song-with-cover.m4a")
    with pytest.raises(InvalidVideo, match=r"picture \(HEIC\)"):
        index_video(DATA / "faults" / "p.heic")
    assert picture_size((DATA / "faults" / "24mp.png").read_bytes(), NO_LIMIT, field="f") == (6000, 4000)
