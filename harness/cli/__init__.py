"""The commands: flags, and what each calls. With `terminal` the only folder that imports click and rich."""
