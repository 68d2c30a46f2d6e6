"""The benchmark's other side: the same networks in PyTorch and Keras, and one process for each library."""
