"""One file for each kind of variant, each with a list VARIANTS. See docs/adding-a-variant.md."""
