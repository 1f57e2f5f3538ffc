"""What a row of the benchmark is, and the rows: a folder or file with VARIANTS for each library.

See docs/adding-a-variant.md.
"""
