"""The part of SAM 2.1 after the image encoder, in plain torch: prompts, memory and masks."""
