"""Official checkpoints: where they are, how they are downloaded, where they are kept."""
