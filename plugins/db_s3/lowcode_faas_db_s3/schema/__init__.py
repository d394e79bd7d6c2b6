"""The schema as numbered steps: ``NNNN_what.sql``, each applied once and never changed."""
