"""Scripts that put the parts together; run as python -m experiments.NAME."""
