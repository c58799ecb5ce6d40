"""`make bench`: the daemon against a public peer on the same work, as ratios of one run."""
