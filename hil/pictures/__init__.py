"""Pictures of the command line for the documents, made from its real output."""
