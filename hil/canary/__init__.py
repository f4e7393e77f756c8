"""The canary: people whose every crossing is known, and a search of all that a gateway left."""
