"""What is trained, and the truth of it: workloads, tasks, and the file that other programs read."""
