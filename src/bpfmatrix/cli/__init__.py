"""The command line: sessions of nox, tasks of invoke, their options, and what a person sees.

`sessions` (nox) and `tasks` (invoke) are the ways in. A command's options are declared in `options`
and read by `values`; `kernel_choice` finds the kernels that they name. `run`, `verify`, `bisect`,
`debug`, `shell`, `profile`, `logs`, `doctor` and `hooks` do the work of the commands with these
names. `console` shows progress; the modules named `..._output` and `..._tables` print results.
"""
