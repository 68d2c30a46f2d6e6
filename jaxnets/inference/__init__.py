"""Inference: a trained model -> log-probabilities -> predicted classes.

`predict` runs one model, `tta` runs it on augmented views, `ensemble` averages views and members, `calibrate` fits a
temperature, `compare` tests a difference, and `pseudo_label` selects confident predictions.
"""

__all__ = ["calibrate", "compare", "ensemble", "predict", "pseudo_label", "tta"]
