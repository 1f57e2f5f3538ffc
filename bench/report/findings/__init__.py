"""The findings of the report, one file each: what is measured, its figure, its table, its words.

Every module of this folder has parts(results), the sections that it adds to the report; see
docs/adding-a-figure.md.
"""
