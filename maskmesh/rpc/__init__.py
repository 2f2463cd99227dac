"""gRPC, as clients and services use it: channels, servers, streams, TLS, idempotency."""
