"""Tells when a module has been loaded; see ``trackway.integrations._finder``."""

from __future__ import annotations

from trackway.integrations._finder import Finder, found, is_loaded

__all__ = ["Finder", "found", "is_loaded"]
