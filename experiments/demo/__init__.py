"""The drawing page: predictor, web server, and the page itself."""
