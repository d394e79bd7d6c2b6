"""The store of executions beside the storage: in the same database, over connections of its own."""
