"""The default batch size of a model."""

# One image of a larger side keeps the cores of a processor busy by itself; a batch would only delay it.
LARGEST_SIDE = 512

DEFAULT_BATCH = 4


def choose_batch(setting: int, *, device: str, image_size: int) -> int:
    """The largest batch of a model of ``image_size`` squared on a torch device;

    ``setting`` 0 chooses it here.
    """
    if setting:
        return setting
    if device.startswith("cpu") and image_size > LARGEST_SIDE:
        return 1
    return DEFAULT_BATCH
