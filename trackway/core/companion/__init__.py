"""The process beside the training: samples the machine, captures git, notices death."""
