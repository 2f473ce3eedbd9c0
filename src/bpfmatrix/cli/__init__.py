"""The command line: sessions of nox, tasks of invoke, their options, and what a person sees.

A command comes in through `sessions` (nox) or `tasks` (invoke). Its options are declared in `options`
and read by `values`; `kernel_choice` finds the kernels that they name. `run`, `verify`, `bisect`,
`debug`, `shell`, `profile`, `logs`, `doctor` and `hooks` do the work of the commands that are called
so. `console` shows progress, and the modules named `..._output` and `..._tables` print results.
"""
