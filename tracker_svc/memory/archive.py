"""The archive of a session: the states of objects on older frames, on disk.

Tracking the next frame does not read the archive.  A prompt on an old frame and a propagation that starts
there do, so the archive stores complete states without loss.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskmesh.errors import SessionNotFound
from tracker_svc.memory.frame_state import FrameState, Held, quality
from tracker_svc.memory.tensor_bytes import from_bytes, to_bytes

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE states (
    obj_id INTEGER, frame_index INTEGER, predicted_iou REAL, object_score_logit REAL, concept_score REAL,
    object_pointer BLOB, memory_features BLOB, low_res_masks BLOB,
    PRIMARY KEY (obj_id, frame_index)
)
"""
# Objects may be out of sight for thousands of frames, which the search for good frames must not read.
_IN_SIGHT = "CREATE INDEX in_sight ON states (obj_id, frame_index) WHERE object_score_logit > 0"

# A crash ends the session and makes its archive useless, so the file need not survive a crash.
_PRAGMAS = ("journal_mode = MEMORY", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -2048")


class _Form(NamedTuple):
    """Data type and shape of the tensors in a column."""

    dtype: torch.dtype
    shape: torch.Size


class SessionArchive:
    """The archive of one session: an SQLite file that is deleted with the session.

    If a new state would exceed ``max_bytes``, the states that were added first are deleted.  If the disk is
    full, the new state is dropped; a file that cannot be changed any more counts as empty.  Safe for use by
    several threads.  Once the archive is closed, writes are ignored and reads raise SessionNotFound.
    """

    def __init__(self, session_id: str, path: Path, *, max_bytes: int, device: torch.device) -> None:
        self._session_id = session_id
        self._path = path
        self._max_bytes = max_bytes
        self._device = device
        self._forms: dict[str, _Form] = {}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    def put(self, obj_id: int, frame_index: int, state: FrameState) -> bool:
        """Store the state of an object on a frame, and replace an earlier state.

        Returns False if the disk refuses it, which is logged.
        """
        tensors = {
            "object_pointer": state.object_pointer,
            "memory_features": state.memory_features,
            "low_res_masks": state.low_res_masks,
        }
        for name, tensor in tensors.items():
            if tensor is not None:
                self._forms[name] = _Form(tensor.dtype, tensor.shape)
        row = (
            obj_id, frame_index, state.predicted_iou, state.object_score_logit, state.concept_score,
            *(None if tensor is None else to_bytes(tensor) for tensor in tensors.values()),
        )  # fmt: skip
        try:
            with self._open() as connection:
                if connection is not None:
                    self._make_room(connection, state.num_bytes)
                    connection.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                    return True
        except sqlite3.OperationalError as error:
            logger.warning("frame %d of object %d is not archived: %s", frame_index, obj_id, error)
            self.delete(obj_id, frame_index)  # no state is better than an outdated one
        return False

    def get(self, obj_id: int, frame_index: int) -> FrameState | None:
        """The state of an object on a frame; None if the archive does not have it."""
        row = self._row(
            "SELECT predicted_iou, object_score_logit, object_pointer, memory_features, low_res_masks,"
            " concept_score FROM states WHERE obj_id = ? AND frame_index = ?",
            obj_id,
            frame_index,
        )
        if row is None:
            return None
        low_res_masks = self._tensor("low_res_masks", row[4])
        assert low_res_masks is not None, "every state has logits"
        return FrameState(
            low_res_masks=low_res_masks,
            predicted_iou=row[0],
            object_score_logit=row[1],
            object_pointer=self._tensor("object_pointer", row[2]),
            memory_features=self._tensor("memory_features", row[3]),
            concept_score=row[5],
        )

    def pointer(self, obj_id: int, frame_index: int) -> Tensor | None:
        """The object pointer of a state, without reading the other tensors."""
        row = self._row(
            "SELECT object_pointer FROM states WHERE obj_id = ? AND frame_index = ?", obj_id, frame_index
        )
        return None if row is None else self._tensor("object_pointer", row[0])

    def held(self, obj_id: int, frames: Collection[int]) -> dict[int, Held]:
        """Which parts of an object's states the archive has on each of these frames."""
        rows = self._rows(
            "SELECT frame_index, object_pointer IS NOT NULL, memory_features IS NOT NULL,"
            " predicted_iou, object_score_logit FROM states"
            f" WHERE obj_id = ? AND frame_index IN ({', '.join('?' * len(frames))})",
            obj_id,
            *frames,
        )
        return {
            index: Held(bool(pointer), bool(memory), quality(iou, score))
            for index, pointer, memory, iou, score in rows
        }

    def good_frames(
        self, obj_id: int, first: int, last: int, *, min_quality: float, count: int, descending: bool
    ) -> list[int]:
        """The frames of a range, both ends included, whose states are worth more than ``min_quality``, the
        highest first or the lowest first, at most ``count``.
        """
        rows = self._rows(
            "SELECT frame_index FROM states WHERE obj_id = ? AND frame_index BETWEEN ? AND ?"
            " AND object_score_logit > 0 AND quality(predicted_iou, object_score_logit) > ?"
            f" ORDER BY frame_index {'DESC' if descending else 'ASC'} LIMIT ?",
            obj_id,
            first,
            last,
            min_quality,
            count,
        )
        return [index for (index,) in rows]

    def clear_memories(self, obj_id: int, first: int, last: int) -> None:
        """Clear pointers and memories on a range of frames, both ends included; the masks are kept."""
        self._change(
            "UPDATE states SET object_pointer = NULL, memory_features = NULL"
            " WHERE obj_id = ? AND frame_index BETWEEN ? AND ?",
            obj_id,
            first,
            last,
        )

    def delete(self, obj_id: int, frame_index: int | None = None) -> None:
        """Delete the state of an object on a frame, or on all frames."""
        first, last = (0, 2**62) if frame_index is None else (frame_index, frame_index)
        self._change(
            "DELETE FROM states WHERE obj_id = ? AND frame_index BETWEEN ? AND ?", obj_id, first, last
        )

    def frames(self, obj_id: int) -> list[int]:
        """The archived frames of an object, in the order in which they were added."""
        rows = self._rows("SELECT frame_index FROM states WHERE obj_id = ? ORDER BY rowid", obj_id)
        return [index for (index,) in rows]

    def oldest(self, obj_id: int) -> int | None:
        """The lowest index of an object's archived frames; None if it has none."""
        row = self._row("SELECT min(frame_index) FROM states WHERE obj_id = ?", obj_id)
        return row[0] if row else None

    def close(self) -> None:
        """Close the archive and delete its file."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def _change(self, statement: str, *values: int) -> None:
        """Change states.  If the disk refuses it, all states are dropped: outdated ones must not be read."""
        with self._lock:
            if self._connection is None:
                return  # nothing is archived
            try:
                self._connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                logger.warning("the archive cannot be changed and is dropped: %s", error)
                self._drop()

    def _drop(self) -> None:
        """Delete the file, whose disk is full or broken; the next state begins another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._path.unlink(missing_ok=True)

    def _row(self, query: str, *values: float) -> Any:
        """The first row of a query; None if the query has no rows."""
        return next(iter(self._rows(query, *values)), None)

    def _rows(self, query: str, *values: float) -> Sequence[Any]:
        """The rows of a query.  Raises SessionNotFound if the archive is closed."""
        try:
            with self._open() as connection:
                if connection is None:
                    raise SessionNotFound("the session has ended", session_id=self._session_id)
                return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:  # the disk is full or broken
            logger.warning("the archive cannot be read: %s", error)
            return ()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """Yields the connection, which is opened on first use; None if the archive is closed."""
        with self._lock:
            if self._connection is None and not self._is_closed:
                connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
                try:
                    for pragma in _PRAGMAS:
                        connection.execute(f"PRAGMA {pragma}")
                    connection.execute(_SCHEMA)
                    connection.execute(_IN_SIGHT)
                except sqlite3.OperationalError:
                    connection.close()
                    self._path.unlink(missing_ok=True)  # half a schema could not be opened later
                    raise
                connection.create_function("quality", 2, quality, deterministic=True)
                self._connection = connection
            yield self._connection

    def _make_room(self, connection: sqlite3.Connection, num_bytes: int) -> None:
        while (used := _used_bytes(connection)) and used + num_bytes > self._max_bytes:
            first = connection.execute("SELECT rowid FROM states ORDER BY rowid LIMIT 1").fetchone()
            if first is None:
                return
            connection.execute("DELETE FROM states WHERE rowid = ?", first)

    def _tensor(self, name: str, data: bytes | None) -> Tensor | None:
        if data is None:
            return None
        form = self._forms[name]
        return from_bytes(data, form.dtype, form.shape, self._device)


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Size of the file without its free pages, in bytes."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
