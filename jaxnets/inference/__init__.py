"""A trained run -> log-probabilities -> answers."""
