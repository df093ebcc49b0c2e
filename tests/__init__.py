"""Tests of Trackway."""
