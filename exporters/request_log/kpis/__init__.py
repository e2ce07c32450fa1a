"""Figures that users define in the settings: each becomes a metric, and a column of the report."""
