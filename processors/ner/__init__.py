"""Names of people and places in natural language, found by a model."""
