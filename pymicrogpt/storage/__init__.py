"""Models and trainings on disk, whole or not at all."""
