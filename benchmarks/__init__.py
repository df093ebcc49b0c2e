"""What Trackway costs, beside a floor and beside its peers: ``python -m benchmarks --help``."""
