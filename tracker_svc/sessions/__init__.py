"""Sessions of the tracker: objects, history, snapshots, replication to the store."""
