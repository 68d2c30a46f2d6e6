"""The notebooks for Kaggle and Colab as scripts, their helpers, and their conversion to notebooks."""
