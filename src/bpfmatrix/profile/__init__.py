"""Where a Python script spends its time in a guest: `invoke profile-python`."""
