"""Examples -> a trained run."""
