"""What is measured, and how: processes, timing, rows, probes, quality, the machine."""
