"""Values that a name gives away: `password=...`, headers, arguments, JSON, SQL and source code."""
