"""The Earth: grid arithmetic, country polygons, tile spans, population surface and their provenance."""
