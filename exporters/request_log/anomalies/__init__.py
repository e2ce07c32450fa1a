"""Finds hours that differ from the same hours of the weeks before, and describes them in sentences."""
