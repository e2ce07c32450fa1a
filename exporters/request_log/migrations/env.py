"""How Alembic runs our migrations: always on the connection that the caller put into the configuration."""

from alembic import context

from otel_telemetry.exporters.request_log.db import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
    transactional_ddl=False,  # the caller holds one transaction around everything
)
context.run_migrations()
