"""The end of a service together with the process that started it, however that one ends."""

import contextlib
import logging
import os
import shutil
import signal
import threading
import time

from maskmesh.config import folder_of_parent
from maskmesh.storage.scratch import delete_all

logger = logging.getLogger(__name__)

# A service has so long to end by itself.
_GRACE_SECONDS = 1.2

_STANDARD_INPUT = 0


def end_with_parent() -> None:
    """If the parent holds the standard input open, end when it is closed."""
    folder = folder_of_parent()
    if folder is not None:
        threading.Thread(target=_watch, args=(folder,), name="parent", daemon=True).start()


def _watch(folder: str) -> None:
    # Not by sys.stdin, whose lock the interpreter would need at its end.
    with contextlib.suppress(OSError):  # it is closed
        while os.read(_STANDARD_INPUT, 2**12):
            pass  # nothing is sent
    logger.warning("the process that started this service has ended")
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    delete_all()
    os._exit(1)
