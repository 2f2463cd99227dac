"""The file of ``maskmesh points --motion``."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from maskmesh.points import MotionOptions, MotionWindow


def write_motion(path: Path, source: str, options: MotionOptions, windows: Sequence[MotionWindow]) -> None:
    """Write options, windows, and the boundaries of all windows together.  Raises OSError."""
    content = {
        "source": source,
        "options": dataclasses.asdict(options)
        | {name: getattr(options, name)._asdict() for name in ("still_gate", "motion_gate")},
        "windows": [
            {
                "window": window.window,
                "first_frame_index": window.first_frame_index,
                "last_frame_index": window.last_frame_index,
                "status": window.status,
                "points": window.points,
                "mean_velocity": round(window.mean_velocity, 6),
                "energy": round(window.energy, 6),
                "codes": list(window.codes),
            }
            for window in windows
        ],
        "boundaries": [
            dataclasses.asdict(boundary) | {"window": window.window}
            for window in windows
            for boundary in window.boundaries
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
