"""The source images: pictures with the masks of their objects, drawn by the shares of their sets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskmesh.masks import BoolArray, ByteArray
from tools.train_micro.data.sets import ECSSD, IMAGE_SETS, ImageSet

# The split of ECSSD's first 800 images; training scenes never contain held-out images.
TRAINING_NAMES = tuple(f"{number:04d}" for number in range(1, 721))
VALIDATION_NAMES = tuple(f"{number:04d}" for number in range(721, 801))

# One image in this many of every other set is held out for validation.
HELD_OUT = 12

# Images are stored as squares of this side: the input of the model is square, and each warp resamples once.
SOURCE_SIZE = 352

# An object with fewer pixels of the stored square is not drawn as a cut-out.
_LEAST_CUT_OUT = 500


@dataclass(frozen=True, slots=True)
class Source:
    """One image and the ids of its objects, 0 for none, both [SOURCE_SIZE, SOURCE_SIZE]."""

    name: str
    picture: ByteArray  # [..., 3], RGB
    labels: ByteArray
    image_set: ImageSet = ECSSD

    def ids(self) -> list[int]:
        """The ids of the objects."""
        return [int(label) for label in np.unique(self.labels) if label]

    def mask(self, label: int) -> ByteArray:
        """The mask of one object, 0 or 255; the union of all for 0."""
        chosen = self.labels == label if label else self.labels > 0
        return chosen.astype(np.uint8) * 255


class Pool:
    """Images, drawn by the shares of their sets."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self._by_set: dict[str, list[Source]] = {}
        for source in self.sources:
            self._by_set.setdefault(source.image_set.name, []).append(source)
        self._photographs = _Shares([s.image_set for s in self.sources])
        self._cut_outs: dict[str, list[tuple[Source, int]]] = {}
        for source in self.sources:
            if not source.image_set.parts:
                counts = np.bincount(source.labels.ravel())
                large = [i for i in range(1, len(counts)) if counts[i] >= _LEAST_CUT_OUT]
                found = self._cut_outs.setdefault(source.image_set.name, [])
                found += [(source, label) for label in large]
        self._cut_outs = {name: found for name, found in self._cut_outs.items() if found}
        self._objects = _Shares([found[0][0].image_set for found in self._cut_outs.values()])

    def photograph(self, random: np.random.Generator) -> Source:
        """A random image."""
        found = self._by_set[self._photographs.draw(random)]
        return found[int(random.integers(len(found)))]

    def object(self, random: np.random.Generator) -> tuple[Source, int]:
        """A random object to cut out: its image and its id.  Raises ValueError if there is none."""
        found = self._cut_outs[self._objects.draw(random)]
        return found[int(random.integers(len(found)))]

    def all_objects(self) -> list[tuple[Source, int]]:
        """Every object to cut out: its image and its id."""
        return [found for of_set in self._cut_outs.values() for found in of_set]


class _Shares:
    """Draws the name of a set by its share."""

    def __init__(self, sets: Iterable[ImageSet]) -> None:
        shares = {one.name: one.share for one in sets}
        self._names = list(shares)
        total = sum(shares.values())
        self._chances = [share / total for share in shares.values()]

    def draw(self, random: np.random.Generator) -> str:
        if not self._names:
            raise ValueError("no set has an object that is large enough to cut out")
        return self._names[int(random.choice(len(self._names), p=self._chances))]


def read_picture(path: Path) -> ByteArray:
    """Read an image file as [H, W, 3], uint8, RGB.  Raises FileNotFoundError if it cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"{path} is not a readable image")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_mask(path: Path) -> BoolArray:
    """Read a mask file as [H, W], true above 127.  Raises FileNotFoundError if it cannot be read."""
    return _read_values(path) > 127


def read_ids(path: Path) -> ByteArray:
    """Read ids of objects as [H, W], 0 for none.  Raises FileNotFoundError if the file cannot be read."""
    return _read_values(path)


def _read_values(path: Path) -> ByteArray:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FileNotFoundError(f"{path} is not a readable image")
    return np.asarray(mask, dtype=np.uint8)


def resized(image: ByteArray, side: int) -> ByteArray:
    """Resize an image to a square, with averaging to shrink and interpolation to enlarge."""
    shrinks = image.shape[0] * image.shape[1] > side * side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def resized_ids(labels: ByteArray, side: int) -> ByteArray:
    """Resize ids of objects to a square: each pixel takes the nearest id."""
    size = (side, side)
    return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def load_sources(root: Path, names: Iterable[str]) -> list[Source]:
    """Read ``images/NAME.jpg`` and ``masks/NAME.png`` of every name of ECSSD, made square.

    Raises FileNotFoundError for the first missing file.
    """
    sources = []
    for name in names:
        picture = read_picture(root / "images" / f"{name}.jpg")
        mask = read_mask(root / "masks" / f"{name}.png").astype(np.uint8)
        sources.append(
            Source(name, resized(picture, SOURCE_SIZE), resized_ids(mask, SOURCE_SIZE)),
        )
    return sources


def load_sets(root: Path, *, held_out: bool, only_open: bool = False) -> list[Source]:
    """Read the training or the held-out images of all sets in ``root/images``, made square.

    ``only_open`` leaves out sets whose terms do not permit any use.  Raises FileNotFoundError for the first
    missing file.
    """
    sources = []
    for image_set in IMAGE_SETS:
        if only_open and not image_set.is_open:
            continue
        for path, mask in paths_of_set(root, image_set, held_out=held_out):
            picture = resized(read_picture(path), SOURCE_SIZE)
            labels = resized_ids(read_ids(mask), SOURCE_SIZE)
            sources.append(Source(f"{image_set.name}/{path.stem}", picture, labels, image_set))
    return sources


def paths_of_set(root: Path, image_set: ImageSet, *, held_out: bool) -> list[tuple[Path, Path]]:
    """The training or the held-out images of one set, each with its mask."""
    folder = root / "images" / image_set.name
    return [
        (path, folder / "masks" / f"{path.stem}.png")
        for number, path in enumerate(sorted((folder / "images").iterdir()))
        if (number % HELD_OUT == 0) == held_out
    ]
