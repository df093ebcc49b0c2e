"""Keras has one backend in a process: torch in this one, the others in processes of their own."""

import os

import pytest

_FOR_THE_IMPORT = {"KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}

# Keras reads them as it is imported; afterwards they are not to reach the processes of other tests.
_ours = [name for name in _FOR_THE_IMPORT if name not in os.environ]
os.environ.update({name: _FOR_THE_IMPORT[name] for name in _ours})
try:
    pytest.importorskip("keras")
finally:
    for _name in _ours:
        del os.environ[_name]
