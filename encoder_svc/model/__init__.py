"""The image encoder of SAM 2.1 in plain torch: trunk, neck and the two high-resolution projections."""
