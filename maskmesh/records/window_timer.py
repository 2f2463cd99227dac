"""Assigns results to windows, and times the windows."""

from collections.abc import Mapping

from maskmesh.records.budget import Budget, WindowRecord
from maskmesh.telemetry import add_seconds


class WindowTimer:
    """Makes the record of each window from its results, which are added in order."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._num_results = 0
        self._num_windows = 0
        self._previous_result = float("-inf")
        self._first_receipt: float | None = None
        self._window_sequences: list[int] = []
        # Of the new frames of the window that is not complete yet.
        self._sequences: list[int] = []
        self._total = 0.0
        self._gated = 0
        self._stage_seconds: dict[str, float] = {}

    def add(
        self,
        sequence: int,
        received: float,
        delivered: float,
        stage_seconds: Mapping[str, float],
        *,
        gated: bool = False,
    ) -> WindowRecord | None:
        """Add a result; returns the record of the window that it completes.

        ``received`` and ``delivered`` are seconds on one clock.
        """
        number, self._num_results = self._num_results, self._num_results + 1
        self._first_receipt = received if self._first_receipt is None else self._first_receipt
        start = max(received, self._previous_result)
        self._previous_result = delivered
        begin = self._num_windows * self.budget.stride
        if number < begin:
            return None  # between two windows
        self._sequences.append(sequence)
        self._total += delivered - start
        self._gated += gated
        self._stage_seconds = add_seconds(self._stage_seconds, stage_seconds)
        if number < begin + self.budget.window_length - 1:
            return None
        new_frames = len(self._sequences)
        self._window_sequences = [*self._window_sequences, *self._sequences][-self.budget.window_length :]
        record = WindowRecord(
            window=self._num_windows,
            first_sequence=self._window_sequences[0],
            last_sequence=sequence,
            new_frames=new_frames,
            total=self._total,
            budget=self.budget.seconds(new_frames),
            latency=delivered - received,
            time=delivered - self._first_receipt,
            stage_seconds=self._stage_seconds,
            gated_frames=self._gated,
        )
        self._num_windows += 1
        self._sequences, self._total, self._gated, self._stage_seconds = [], 0.0, 0, {}
        return record
