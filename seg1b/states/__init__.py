"""The ten states S0 to S9: one module and one `run` each; files only through `seg1b.store`."""
