"""Check a deployment on AWS; each check gives one line with a remedy."""
