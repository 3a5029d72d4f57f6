"""Studies: each is run as ``python -m eval.NAME`` and uses the public API only."""
