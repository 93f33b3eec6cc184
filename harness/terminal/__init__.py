"""How values look in a terminal: tables, live views, the pages and JSON answers of commands. Imports rich."""
