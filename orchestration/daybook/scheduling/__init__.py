"""Due dates, gaps, backfills and the freshness of published tables."""
