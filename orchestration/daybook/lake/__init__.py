"""Delta tables of the lake: read, merge, publish, evolve, rewrite and vacuum."""
