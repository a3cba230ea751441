"""The outlet catalogue: load and check a user's, synthesise one, and the metrics of the 1A guard."""
