"""One guest session, from a prepared kernel to a written result, for every workload."""
