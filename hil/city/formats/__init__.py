"""What other platforms read, made from the city's tables."""
