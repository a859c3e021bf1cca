"""Files that the report page carries inside it."""
