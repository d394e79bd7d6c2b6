"""One filter over log events, written in the query language of each log backend."""
