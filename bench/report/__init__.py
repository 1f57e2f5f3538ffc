"""The report, drawn from results.json and nothing else: this side imports nothing that measures."""
