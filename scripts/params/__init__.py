"""params.yaml: its schema, its reader, and the make variables that are generated from it."""
