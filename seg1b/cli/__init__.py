"""The `seg1b` command."""
