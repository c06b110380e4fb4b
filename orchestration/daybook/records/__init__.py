"""Records of runs and attempts: names, the archive, locks, costs, fingerprints and notifications."""
