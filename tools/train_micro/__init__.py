"""Training of the embedded model; see ``python -m tools.train_micro --help`` and MODEL_CARD.md."""
