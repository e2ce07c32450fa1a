"""The dialects in which instrumentations describe model calls, and how each is read."""
