"""Everything of SAM 2.1 that follows the cut, in plain torch: prompts, memory and masks."""
