"""Folders of the host that a guest sees: what a user asks for, and the server of the folders."""
