"""How much is computed at once."""

# Beyond this side one image keeps the cores of a processor busy by itself, and more only make it wait.
LARGEST_SIDE = 512

MOST = 4


def choose_batch(setting: int, *, device: str, image_size: int) -> int:
    """The largest batch for a model of ``image_size`` squared on a torch device; 0 leaves it to this."""
    if setting:
        return setting
    if device.startswith("cpu") and image_size > LARGEST_SIDE:
        return 1
    return MOST
