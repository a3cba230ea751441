"""Pure numeric functions on arrays: no files, no clocks, no logging, no Ray."""
