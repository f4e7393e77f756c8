"""The far end of the wire: what the city's platform receives, and its account of every number."""
