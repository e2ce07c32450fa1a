"""From what is known of a trace to its rows: facts.py and chunks.py hold it, trace.py derives what follows."""
