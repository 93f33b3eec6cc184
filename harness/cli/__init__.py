"""The commands, and every page and JSON answer they print. The only folder that imports click and rich."""
