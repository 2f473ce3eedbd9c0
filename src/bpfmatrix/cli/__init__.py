"""The command line: sessions of nox, tasks of invoke, their options, and what a person sees."""
