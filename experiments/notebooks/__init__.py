"""The notebooks for Kaggle and Colab as plain scripts, what they need, and how they become notebooks."""
