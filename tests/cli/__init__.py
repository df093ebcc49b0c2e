"""The command line, used as a person and as a program would."""
