"""Word lists and grammars behind the generated sample texts; written for this project."""
