"""The services behind the gateway, and the embeddings that pass between them."""
