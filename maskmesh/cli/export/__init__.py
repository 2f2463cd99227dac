"""``maskmesh export``: masks in the formats of datasets and annotation tools."""
