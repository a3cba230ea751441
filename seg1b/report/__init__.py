"""Pages and maps for people to look at; no decision is taken here."""
