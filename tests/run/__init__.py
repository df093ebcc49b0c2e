"""What a program sees of a run, and what is on disk afterwards."""
