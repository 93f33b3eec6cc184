"""What would stop or slow a run here: the machine, the installation, the project and its data, each with its cure."""
