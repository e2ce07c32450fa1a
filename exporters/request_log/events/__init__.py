"""Workflow events, feedback and browser events, as rows."""
