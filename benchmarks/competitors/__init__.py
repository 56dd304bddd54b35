"""Programs that extract the same table, each run in a process of its own; their last line says how long it took."""
