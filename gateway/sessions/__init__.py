"""Sessions of the gateway: leases, resume points, and the tracker that each session is on."""
