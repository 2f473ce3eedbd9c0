"""Results of `matrix` and `verify`, of one or many files, in a form that somebody reads.

`collect` reads the files, `model` is what all forms are made from, and each form is a module:
`table`, `junit`, `markdown`, `html`.
"""
