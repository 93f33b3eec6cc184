"""What takes room in a project: what boards, searches and commands need, what nothing needs, and its removal."""
