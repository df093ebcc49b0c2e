"""One folder per framework, strangers to each other: explicit objects, nothing at import.

How to add one, and what it promises, is in ``CONTRIBUTING.md``.
"""
