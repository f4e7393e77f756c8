"""What may be said about people: exact noise, drawn once, before anything leaves memory."""
