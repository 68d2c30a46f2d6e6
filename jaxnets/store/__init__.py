"""Files that are complete or absent, folders with checksums, and locks.

``atomic``, ``bounded``, ``lock`` and ``manifest`` need the standard library only, ``npz``, ``train_rows`` and
``fingerprint`` NumPy, ``weights`` JAX, and ``checkpoint`` JAX and Orbax.
"""

__all__ = ["atomic", "bounded", "checkpoint", "fingerprint", "lock", "manifest", "npz", "train_rows", "weights"]
