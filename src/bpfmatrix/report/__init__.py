"""Reports: the results of `matrix` and `verify`, from one or many files, for people and for CI.

`inputs` reads the files, `matrix` puts their results side by side, and each format of a report is a
module: `table`, `junit`, `markdown`, `html`.
"""
