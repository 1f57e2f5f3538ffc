"""The model in array libraries: what a user would write instead, for the variants that time it."""
