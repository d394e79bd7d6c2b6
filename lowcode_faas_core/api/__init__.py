"""The public HTTP API: one module a resource, ``problems`` for errors, ``application`` to build it."""
