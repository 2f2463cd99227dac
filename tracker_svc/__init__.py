"""The tracker service: tracks prompted objects in sessions, from embeddings of the encoder service."""
