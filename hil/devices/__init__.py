"""The supported devices from the other side: what each puts on its wire, byte by byte."""
