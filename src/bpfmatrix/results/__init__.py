"""Results: the models of runs and verifications, their files, expectations, and the cache."""
