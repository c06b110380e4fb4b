"""Measure performance of Daybook and other systems in one run, as ratios (``make bench``)."""
