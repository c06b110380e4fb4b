"""Claims about speed: measured side by side in one run, as ratios, by ``make bench``; never by the test suite."""
