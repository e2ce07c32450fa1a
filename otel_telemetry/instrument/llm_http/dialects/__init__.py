"""One small parser for each way of talking to a model over HTTP; endpoints.py says which one speaks where."""
