"""What keeps the speed: gates, instruction counts, two commits compared, two runs compared."""
