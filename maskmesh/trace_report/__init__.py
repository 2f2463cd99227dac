"""Reports from trace files: attribution of latency to stages, tables, waterfalls."""
