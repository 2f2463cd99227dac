"""Points that are followed through stored videos."""
