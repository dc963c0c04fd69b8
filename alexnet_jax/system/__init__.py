"""The machine: flags and errors of commands, processes, caches, memory pages."""
