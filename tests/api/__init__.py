"""The api and what it writes, called from Python."""
