from tests.kernels.conftest import keyring

__all__ = ["keyring"]
