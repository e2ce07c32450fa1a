"""The database: schema, SQLite and PostgreSQL, bulk writing, partitions."""
