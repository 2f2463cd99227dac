"""The interface of session replication, with an implementation for trackers without a store."""


class Replicator:
    """Replicates the changes of one session.  This class does nothing; it is used without a store."""

    is_stale: bool = False
    """Whether another tracker owns the session now."""

    def enqueue(self) -> None:
        """Enqueue the session's current state for the store; the caller holds the session's lock."""

    async def flush(self) -> None:
        """Wait until all enqueued changes are stored.

        Raises StaleEpoch if another tracker owns the session.
        """

    async def wait_for_room(self) -> None:
        """Wait until the replication lag permits another frame.  Raises StaleEpoch."""

    async def confirm(self) -> bool:
        """Check the owner in the store; returns whether there is a store.

        Raises StaleEpoch if another tracker owns the session.
        """
        return False

    async def close(self) -> None:
        """Stop; enqueued changes that are not stored yet are dropped."""
