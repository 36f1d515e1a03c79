"""Alembic's entry: runs the steps on the connection that `database.py` hands over, in its transaction."""

from alembic import context

from herdling.preference.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
