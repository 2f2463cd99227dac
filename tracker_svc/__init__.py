"""The tracker service: sessions, prompts, memory and masks against embeddings of the encoder service."""
