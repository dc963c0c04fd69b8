"""The networks and runs that ship; each file has a get_config()."""
