"""Tests of the training process's side and of the companion."""
