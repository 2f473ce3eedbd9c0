"""A profile of a Python script that runs in a guest: `invoke profile-python`."""
