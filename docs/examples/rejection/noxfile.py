"""The sessions of nox: `nox -s matrix`, and one for each kernel."""

from bpfmatrix.sessions import register

register()
