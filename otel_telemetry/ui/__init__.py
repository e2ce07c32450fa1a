"""The page: requests, costs and privacy of one database, in a browser, read-only."""
