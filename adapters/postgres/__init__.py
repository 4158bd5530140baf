"""PostgreSQL, the only truth. Every statement stands in ``sql/``; only this package knows psycopg."""
