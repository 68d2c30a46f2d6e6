"""The page on which one draws a digit: what predicts, what serves, and the page itself."""
