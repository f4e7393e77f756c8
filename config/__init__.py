"""The configuration: what a gateway is told by its owner, checked before anything acts on it."""
