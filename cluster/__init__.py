"""Ray: session, sharding, tasks, the retention actor and the driver. Nothing else in seg1b knows Ray."""
