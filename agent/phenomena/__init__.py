"""What the city asks about, computed from a window."""
