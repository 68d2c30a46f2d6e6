"""Training: examples -> a trained model.

`step` is one training step, `loop.TrainLoop` runs epochs of them in memory, and `fit.fit` is a whole training with
checkpoints and resume.
"""

__all__ = ["fit", "history", "loop", "losses", "optimizer", "parallel", "step"]
