"""Sessions of the gateway: leases, resume points, and routing to the tracker that owns a session."""
