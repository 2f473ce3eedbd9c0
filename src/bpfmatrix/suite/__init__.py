"""Running the tests: the workload of `run`, `matrix`, `watch` and the nox sessions."""
