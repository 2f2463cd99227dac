"""The encoder service: images in, image embeddings computed, cached and handed over."""
