"""Writing: facts are stored and rows brought in line with them, a batch a transaction."""
