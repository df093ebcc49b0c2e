"""The run and its log call, in the training process; and the companion beside it."""
