"""The store of executions that comes with the storage ``files``: one SQLite database."""
