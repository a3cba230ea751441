"""What a user launches: certify, tune, screen, prune, and the plan of which states have to run."""
