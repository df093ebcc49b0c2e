"""The index: a root's logs in a shape that answers questions quickly."""
