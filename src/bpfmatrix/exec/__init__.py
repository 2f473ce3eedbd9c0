"""Commands of other projects' test runners, each run in a guest: `bpfmatrix exec`."""
