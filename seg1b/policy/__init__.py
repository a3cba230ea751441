"""Typed models of the governed files in `config/`, their canonical form and their digests."""
