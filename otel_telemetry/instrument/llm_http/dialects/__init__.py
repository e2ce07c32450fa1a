"""One small parser for each HTTP dialect of model APIs; endpoints.py decides which one a request uses."""
