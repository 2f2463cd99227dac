"""Presets of quality and speed: what they set, and the settings that fit a machine.

draft      half the size, fewer memories
balanced   three quarters of the size
high       the published settings
ultra      the published settings in float32
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar, get_args

from maskmesh.cli.mesh.resources import Resources
from maskmesh.types import DTypeSetting

PresetName: TypeAlias = Literal["draft", "balanced", "high", "ultra"]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

T = TypeVar("T")

MIB = 2**20

# Sides of the input for draft, balanced and high, by the start of a model's name.  Sizes must be multiples of
# the windows of the model's attention.
_SIDES = {
    "micro": (128, 192, 256),
    "sam2.1": (512, 768, 1024),
    "sam3": (336, 672, 1008),
    "test": (128, 192, 256),
}

# Resident memory of a mesh and of the command around it, in MiB: fixed, and for each 1024 x 1024 pixels of
# the input; measured in bfloat16, in float32 twice as much (docs/guides/presets.md).
_FIXED_MIB = {
    "micro": 920, "test": 950, "sam2.1-tiny": 1500, "sam2.1-small": 1550, "sam2.1-base-plus": 1750,
    "sam2.1-large": 2500, "sam3": 5200,
}  # fmt: skip
_PIXELS_MIB = {"micro": 1000, "test": 1000, "sam2.1": 650, "sam3": 2600}

# Bytes of an embedding for each 1024 x 1024 pixels, in bfloat16.
_EMBEDDING_BYTES = {"micro": 4 * MIB, "test": 4 * MIB, "sam2.1": 8 * MIB, "sam3": 10 * MIB}

# What may be used of the memory that is granted.
USABLE = 0.85

# Seconds of a tracked frame at the published size on one core with matrix units; without them several times
# more.  A run that would take longer than this gets a faster preset.
_FRAME_SECONDS = {
    "micro": 0.06, "test": 0.06, "sam2.1-tiny": 1.6, "sam2.1-small": 1.8, "sam2.1-base-plus": 2.6,
    "sam2.1-large": 5.5, "sam3": 14.0,
}  # fmt: skip
WITHOUT_MATRIX_UNITS = 4.0
LONG_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class PresetSettings:
    """What a preset sets; None leaves a service its default."""

    name: PresetName
    image_size: int
    dtype: DTypeSetting
    memory_frames: int
    window: int
    """Frames of a propagation that are in progress."""
    cache_bytes: int | None = None
    embedding_bytes: int | None = None
    decoder_bytes: int | None = None

    def flags(self) -> dict[str, list[str]]:
        """Flags by kind of service."""
        encoder, tracker = [], ["--memory-frames", str(self.memory_frames)]
        gateway = ["--window", str(self.window)]
        if self.cache_bytes is not None:
            encoder += ["--cache-bytes", str(self.cache_bytes)]
        if self.embedding_bytes is not None:
            tracker += ["--embedding-bytes", str(self.embedding_bytes)]
        if self.decoder_bytes is not None:
            gateway += ["--decoder-bytes", str(self.decoder_bytes)]
        return {"encoder": encoder, "tracker": tracker, "gateway": gateway}


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that fit a machine, and why."""

    settings: PresetSettings
    reasons: tuple[str, ...]
    fits: bool = True
    """Whether the memory suffices, as far as it can be estimated."""


def preset(model: str, name: PresetName) -> PresetSettings:
    """The settings of a preset.  Raises ValueError for an unknown model."""
    draft, balanced, high = _of_family(_SIDES, model)
    match name:
        case "draft":
            return PresetSettings(name, draft, "auto", memory_frames=3, window=4)
        case "balanced":
            return PresetSettings(name, balanced, "auto", memory_frames=6, window=4)
        case "high":
            return PresetSettings(name, high, "auto", memory_frames=6, window=4)
    return PresetSettings(name, high, "float32", memory_frames=6, window=4)


def needed_bytes(model: str, settings: PresetSettings, *, wide: bool = False) -> int:
    """An estimate of the memory of a mesh with these settings and empty caches, the command included.

    ``wide`` is whether the type ``auto`` is float32 on this machine.
    """
    scale = _scale(settings, wide=wide)
    pixels = (settings.image_size / 1024) ** 2
    mib = _of_family(_FIXED_MIB, model) + scale * pixels * _of_family(_PIXELS_MIB, model)
    return int(mib * MIB)


def _scale(settings: PresetSettings, *, wide: bool) -> int:
    """The size of a number, relative to bfloat16."""
    return 2 if settings.dtype == "float32" or (settings.dtype == "auto" and wide) else 1


def frame_seconds(model: str, settings: PresetSettings, resources: Resources) -> float:
    """A rough estimate of the time of a tracked frame on processor cores."""
    high = preset(model, "high").image_size
    share = (settings.image_size / high) ** 2
    slow = 1.0 if resources.has_matrix_units else WITHOUT_MATRIX_UNITS
    return _of_family(_FRAME_SECONDS, model) * share * slow / min(resources.cores, 8)


def plan(
    model: str,
    resources: Resources,
    *,
    num_frames: int = 0,
    image_size: int | None = None,
    dtype: DTypeSetting | None = None,
) -> Plan:
    """The best preset up to ``high`` that fits the memory and the time, with caches of the rest.

    ``num_frames`` are the frames to track, 0 if their number is not known; for accelerators, time is not
    estimated.  ``image_size`` and ``dtype`` are those that the user has chosen.  Raises ValueError for an
    unknown model.
    """
    wide = not resources.is_accelerator and not resources.has_matrix_units
    usable = int(resources.memory_bytes * USABLE)
    reasons = [f"memory {resources.memory_bytes / 2**30:.1f} GiB ({resources.memory_source})"]
    reasons.append(f"{resources.cores} cores" + (" with matrix units" if resources.has_matrix_units else ""))
    chosen = preset(model, "draft")
    for name in ("high", "balanced", "draft"):
        candidate = preset(model, name)
        candidate = replace(
            candidate, image_size=image_size or candidate.image_size, dtype=dtype or candidate.dtype
        )
        needed = needed_bytes(model, candidate, wide=wide)
        seconds = num_frames * frame_seconds(model, candidate, resources)
        if resources.is_accelerator:
            seconds = 0.0
        if needed > usable and name != "draft":
            reasons.append(f"{name} needs {needed / 2**30:.1f} GiB")
        elif resources.device_bytes and needed > resources.device_bytes * USABLE and name != "draft":
            reasons.append(f"{name} does not fit into the device's {resources.device_bytes / 2**30:.1f} GiB")
        elif seconds > LONG_SECONDS and name != "draft":
            reasons.append(f"{name} would take {seconds / 60:.0f} min for {num_frames} frames")
        else:
            chosen = candidate
            break
    needed = needed_bytes(model, chosen, wide=wide)
    fits = needed <= usable
    if not fits:
        reasons.append(f"{chosen.name} needs {needed / 2**30:.1f} GiB, more than there is")
    rest = max(usable - needed, 96 * MIB)
    embedding = _of_family(_EMBEDDING_BYTES, model) * _scale(chosen, wide=wide)
    embedding = int(embedding * (chosen.image_size / 1024) ** 2)
    cache = max(8 * embedding, min(rest // 2, 2 * 2**30))
    fetched = max(4 * embedding, min(rest // 8, 256 * MIB))
    decoders = max(48 * MIB, min(rest // 6, 384 * MIB))
    reasons.append(
        f"{rest / 2**20:.0f} MiB are left for caches: {cache // max(embedding, 1)} embeddings, "
        f"{decoders // MIB} MiB of decoders"
    )
    settings = PresetSettings(
        chosen.name,
        chosen.image_size,
        chosen.dtype,
        chosen.memory_frames,
        chosen.window,
        cache_bytes=cache,
        embedding_bytes=fetched,
        decoder_bytes=decoders,
    )
    return Plan(settings, tuple(reasons), fits)


def _of_family(values: Mapping[str, T], model: str) -> T:
    """The value of a model: that of its name, or of the longest beginning of it."""
    for name in sorted(values, key=len, reverse=True):
        if model.startswith(name):
            return values[name]
    raise ValueError(f"there are no presets for {model!r}; set --image-size and --dtype instead")
